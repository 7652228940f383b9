"""What every list that is shown has in common: who asks, which items, what is written down."""
