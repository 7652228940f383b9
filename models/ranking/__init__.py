"""Features of (request, candidate) pairs, the ranker, its calibration and explanations."""
