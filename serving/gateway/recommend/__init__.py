"""Recommendations for a user."""
