"""The model server's REST API. Imports `core`."""
