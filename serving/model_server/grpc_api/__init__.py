"""The model server's gRPC services. Imports `core`."""
