"""RankingTuner: KerasTuner's search for the ranker's settings."""
