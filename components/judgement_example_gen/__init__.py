"""JudgementExampleGen: what people judged to be right for a query."""
