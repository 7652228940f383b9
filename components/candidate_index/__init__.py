"""CandidateIndex: item vectors and as-of item tables."""
