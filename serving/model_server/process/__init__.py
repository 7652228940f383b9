"""The model server's process: flags, configuration files, logs, main; and how to start one (`child`).

Imports `grpc_api`, `http_api` and `core`, but not before the flags are right: TensorFlow takes seconds.
"""
