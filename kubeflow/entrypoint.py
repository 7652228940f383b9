"""What the container of every step runs: TFX's entry point, on the files that Kubeflow has put there.

TensorFlow's and Beam's file systems know ``gs://`` and paths. Where the pipeline root of open-source
Kubeflow Pipelines is ``minio://`` or ``s3://``, its launcher copies a step's input artifacts to folders below
/minio or /s3 before the step starts, and uploads the outputs from there after it. This puts those paths
into the invocation, and the URLs back into what the step says that it made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Scheme -> where KFP's launcher keeps the copy; the image makes the folders.
MOUNTS = {"minio://": "/minio/", "s3://": "/s3/"}
_INVOCATION = "--json_serialized_invocation_args"


def main(argv: list[str] | None = None) -> None:
    """Runs one step.

    Args:
      argv: arguments without the program's name, as the compiled spec has them; those of the process if
        None.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    place = arguments.index(_INVOCATION) + 1
    invocation = json.loads(arguments[place])
    _replace_uris(invocation, to_path)
    arguments[place] = json.dumps(invocation)

    from absl import app
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor as tfx_entry

    try:
        app.run(tfx_entry.main, argv=["step", *arguments], flags_parser=tfx_entry._parse_flags)
    except SystemExit as stop:
        if stop.code:
            raise
    written = Path(invocation["outputs"]["outputFile"])
    if "://" in str(invocation["outputs"]["outputFile"]):
        return  # Vertex AI, whose bucket TensorFlow opens itself
    output = json.loads(written.read_text(encoding="utf-8"))
    if _replace_uris({"outputs": output}, to_url):
        written.write_text(json.dumps(output), encoding="utf-8")


def to_path(uri: str) -> str:
    """Where the launcher keeps the copy of an artifact; other URIs as they are."""
    for scheme, folder in MOUNTS.items():
        if uri.startswith(scheme):
            return folder + uri.removeprefix(scheme)
    return uri


def to_url(path: str) -> str:
    """The URI of which :func:`to_path` made a path."""
    for scheme, folder in MOUNTS.items():
        if path.startswith(folder):
            return scheme + path.removeprefix(folder)
    return path


def _replace_uris(message: dict[str, Any], change: Callable[[str], str]) -> int:
    """Changes the URI of every artifact of an ExecutorInput, in place; the number of those that changed."""
    changed = 0
    for side in ("inputs", "outputs"):
        for artifacts in message.get(side, {}).get("artifacts", {}).values():
            for artifact in artifacts.get("artifacts", []):
                if (uri := change(artifact["uri"])) != artifact["uri"]:
                    artifact["uri"] = uri
                    changed += 1
    return changed


if __name__ == "__main__":
    main()
