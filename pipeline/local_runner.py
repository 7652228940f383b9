"""Runs the pipeline on this machine.

As a command::

    python -m pipeline.local_runner --config pipeline/configs/complete_journey.yaml

and as the file that the TFX command line registers and runs::

    tfx pipeline create --engine=local --pipeline_path=pipeline/local_runner.py
    tfx run create --engine=local --pipeline_name=complete_journey

Everything of a run lies in ``<runs dir>/<pipeline name>/``: report.html, summary.json, run.log,
metadata.sqlite, artifacts/, serving/. Running again re-uses every component whose inputs,
configuration and code are unchanged, which is also how a run that was killed continues.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Run as a file (the TFX command line does), the first place to import from is this folder,
    # where `pipeline` would be pipeline.py instead of the package.
    _ROOT = Path(__file__).resolve().parent.parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT / "pipeline"]
    sys.path.insert(0, str(_ROOT))

from pipeline.run.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
