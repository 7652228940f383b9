"""SearchTrainer: the ranker of what a search finds, and the queries that search is measured with."""
