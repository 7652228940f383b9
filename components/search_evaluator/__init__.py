"""SearchEvaluator: whether the servable's search is good enough to be pushed."""
