"""DataVersion's component spec (no `from __future__ import annotations`: see TFX)."""

from tfx.dsl.component.experimental.annotations import OutputDict, Parameter
from tfx.dsl.component.experimental.decorators import component

from components.data_version import executor


@component
def DataVersion(files: Parameter[str], code_version: Parameter[str]) -> OutputDict(version=str):
    """Takes the fingerprint of files, for the cache key of what reads them.

    It must run in every run: no cache key knows what is in the files before.

    Args:
      files: JSON of their root, and of their paths by configuration key (`executor.files_json`).
      code_version: :func:`components.common.fingerprint.code_version` of this component.
    """
    del code_version  # only there for the record
    return {"version": executor.run(files)}
