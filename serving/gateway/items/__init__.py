"""One item: its card, similar ones, and why it is recommended."""
