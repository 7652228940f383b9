"""Evaluator: TFMA on the ranking head, one row a candidate."""
