"""Reviewed schemas of the shops' tables, and the tool that proposes a first version."""
