"""Pipeline components of Shelfwise, one folder each.

In a component's room: `component.py` (the TFX spec), `executor.py` (the work) and, where it obeys the
configuration, `settings.py`. A component imports `components.common`, `models` and `schema`
(InfraValidator also `serving.model_server`), never another component. Importing a package here
imports neither TensorFlow nor TFX.
"""

import importlib.util
from typing import Any

# TF_USE_LEGACY_KERAS must be set before TensorFlow is imported, also in a Beam worker or a
# container that starts at one of these modules and not at our command line.
if importlib.util.find_spec("shelfwise_env") is not None:
    import shelfwise_env  # noqa: F401


def __getattr__(name: str) -> Any:
    # The artifact types' TYPE_NAMEs, by which containers import them; TFX only when asked for.
    if name in ("CandidateIndex", "RequestHistories", "SearchModel"):
        from components.common import artifact_types as types

        return getattr(types, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
