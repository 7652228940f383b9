"""Towers, collaborative vectors, as-of item tables, search of vectors and candidate sources."""
