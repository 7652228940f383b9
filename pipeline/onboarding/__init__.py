"""`shelfwise init`: from a shop's own files to a configuration, a schema and tables that a run can read.

In the room, from the ground up: `files` (what lies in a path, its first rows, all its rows), `values` (times,
numbers and texts as files write them), `flatten` (nested columns), `formats` (exports that are recognised by
their header), `roles` (what a column of any other file is), `proposal` (what is done with every column, and
what only a person can say), `prepare` (the tables that it writes), `writing` (the YAML and the schemas) and
`command`. It imports `components.common` and `schema`, never TensorFlow: a proposal takes seconds.
"""
