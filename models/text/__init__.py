"""The BERT text encoder: its graph, the groups of texts that it learns from, and its training."""
