"""Pusher: a new version directory, complete or not at all."""
