"""The model server's gRPC services."""
