"""Writes the suite's models and configuration.

`python -m tests.serving.model_server.conformance.export FOLDER`
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def write_config(path: Path, base: Path) -> None:
    """A ModelServerConfig with both versions and their labels."""
    path.write_text(
        f'model_config_list {{ config {{ name: "shelfwise" base_path: "{base}" '
        'model_platform: "tensorflow" model_version_policy { all {} } '
        'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 } '
        'version_labels { key: "a b" value: 2 } } }\n'
    )


def main() -> None:
    """Exports versions 1 and 2 below FOLDER/shelfwise."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    from tests.serving import overlap_model

    folder = Path(sys.argv[1]).resolve()
    for version in (1, 2):
        overlap_model.export(str(folder / "shelfwise" / str(version)), boost=version - 1)
    write_config(folder / "models.config", folder / "shelfwise")


if __name__ == "__main__":
    main()
