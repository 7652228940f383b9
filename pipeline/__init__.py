"""The Shelfwise TFX pipeline. Importing it is cheap.

`pipeline` assembles the `stages`; `run` runs it on this machine, `local_runner` is its command and
`demo` its demonstration; `report` shows what a run found. `record` (a run in the metadata store) and
`formats` are below both. The package may import `components`, `models`, `serving` and `schema`.
"""
