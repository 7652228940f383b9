"""What a killed run left behind, and how the next one clears it."""

from __future__ import annotations

import shutil
from pathlib import Path

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from pipeline.record import open_store, read_node


def clear_interrupted(run_dir: Path) -> None:
    """Removes what a killed run left half done, and prints what that was.

    Call it only while this run holds the folder's lock.

    Args:
      run_dir: the run's folder, with metadata.sqlite, artifacts/ and serving/ as far as they exist.
    """
    if (run_dir / "metadata.sqlite").exists():
        names = cancel_abandoned(open_store(run_dir / "metadata.sqlite"), run_dir / "artifacts")
        if names:
            print("executions that were interrupted:", ", ".join(names))
    # A push is copied to a hidden folder, and saved_model.pb is copied last.
    serving = run_dir / "serving"
    for version in [*serving.glob("*/.[0-9]*.part"), *serving.glob("*/[0-9]*")]:
        complete = (version / "saved_model.pb").exists() and version.suffix != ".part"
        if version.is_dir() and not complete:
            print("incomplete version removed:", version)
            shutil.rmtree(version)


def cancel_abandoned(store: metadata_store.MetadataStore, pipeline_root: str | Path) -> list[str]:
    """Closes the executions that a killed run left open, and removes what they had half written.

    Call it only while no other run can use the store. Without it an interrupted execution would
    stay RUNNING for ever and its partial outputs would stay on the disk.

    Args:
      store: the metadata store.
      pipeline_root: folder of the artifacts, ``<root>/<component>/<key>/<execution id>``.

    Returns:
      The ids of the components that had been interrupted.
    """
    open_states = (metadata_store_pb2.Execution.NEW, metadata_store_pb2.Execution.RUNNING)
    interrupted = [e for e in store.get_executions() if e.last_known_state in open_states]
    names = []
    for execution in interrupted:
        names.append(read_node(store, execution).id)
        for folder in (Path(pipeline_root) / names[-1]).glob(f"*/{execution.id}"):
            shutil.rmtree(folder, ignore_errors=True)
        execution.last_known_state = metadata_store_pb2.Execution.CANCELED
    if interrupted:
        store.put_executions(interrupted)
    return names
