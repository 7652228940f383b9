"""The model server's REST interface."""
