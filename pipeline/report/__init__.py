"""What a run found: summary, findings, charts and the page."""
