"""The server's work without a transport: versions, tensors, Predict, batching, metrics.

Imports nothing else of ours.
"""
