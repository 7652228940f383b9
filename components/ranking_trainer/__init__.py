"""RankingTrainer: the DCN-v2 ranker."""
