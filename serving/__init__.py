"""Serving: a TF-Serving-compatible gRPC server and a typed client. Importing it is cheap."""
