"""Shelfwise models: text encoder, two towers, candidate sources, ranker and the funnel that serves them."""

import shelfwise_env  # noqa: F401  (TF_USE_LEGACY_KERAS must be set before TensorFlow is imported)
