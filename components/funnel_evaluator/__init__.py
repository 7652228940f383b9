"""FunnelEvaluator: the funnel compared with its baselines, and the blessing."""
