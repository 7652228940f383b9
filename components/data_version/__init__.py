"""DataVersion: the fingerprint of the shop's files, taken when the pipeline runs."""
