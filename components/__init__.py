"""Pipeline components of Shelfwise: one folder each, `component.py` (spec) and `executor.py` (work)."""

import importlib.util

# TF_USE_LEGACY_KERAS must be set before TensorFlow is imported, also in a Beam worker or a
# container that starts at one of these modules and not at our command line.
if importlib.util.find_spec("shelfwise_env") is not None:
    import shelfwise_env  # noqa: F401
