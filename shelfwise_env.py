"""The environment that every Shelfwise process needs, set in this one place.

TensorFlow Recommenders works with Keras 2 only, and TensorFlow chooses its Keras when it is
first imported, from ``TF_USE_LEGACY_KERAS``. Installing Shelfwise also installs
``shelfwise_env.pth``, through which the interpreter imports this module as it starts: command
line, ``tfx``, Beam workers, containers and pytest alike. Importing costs no more than this
file: nothing but ``os`` and ``sys``.
"""

import os
import sys

#: Variable -> value. KERAS_BACKEND is for Keras 3 (KerasHub), which otherwise obeys ~/.keras/keras.json.
REQUIRED = {"TF_USE_LEGACY_KERAS": "1", "KERAS_BACKEND": "tensorflow"}


def problems() -> list[str]:
    """What in this process's environment keeps Shelfwise from working, one line each."""
    found = [
        f"{name}={os.environ[name]} is set, but Shelfwise needs {name}={value}; run `unset {name}`"
        for name, value in REQUIRED.items()
        if os.environ.get(name, value) != value
    ]
    if "tensorflow" in sys.modules and os.environ.get("TF_USE_LEGACY_KERAS") is None:
        found.append("tensorflow was imported before shelfwise_env; import shelfwise_env first")
    return found


def apply() -> None:
    """Sets what is not set yet; a different value stays, with a warning on stderr."""
    for line in problems():
        print(f"shelfwise: {line}", file=sys.stderr)
    for name, value in REQUIRED.items():
        os.environ.setdefault(name, value)


apply()
