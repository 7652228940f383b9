import os
import sys

# Before any test imports TensorFlow, and for every process that a test starts.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import shelfwise_env  # noqa: E402, F401  (for checkouts that are not installed)
