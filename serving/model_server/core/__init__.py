"""Versions, servables, prediction, batching and tensors of the model server."""
