"""A user's data: given out and removed."""
