"""CandidateSampler: labelled candidate lists of past requests."""
