"""FunnelEvaluator: the funnel beside its baselines, and the blessing."""
