"""BaselineModel and WarmStartModel: which of the pushed versions a run looks back at."""
