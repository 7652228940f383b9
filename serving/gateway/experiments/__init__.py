"""Which arm of an experiment a list is made for, and which experiments there are."""
