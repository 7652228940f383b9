"""`shelfwise init`: from a shop's own files to a configuration, a schema and tables that a run can read.

In the room, from the ground up: `files` (what lies in a path, its first rows, all its rows), `values`
(times, numbers and texts as files write them), `flatten` (nested columns), `formats` (exports that are
recognised by their header), `joining` (orders in two tables), `roles` (what a column of any other file is),
`proposal` (what is done with every column), `questions` (what only a person can say), `prepare` and
`derive` (the tables that it writes), `facts` (what they say about learning), `writing` and `schemas` (the
YAML and the schemas), `telling` (what is shown) and `command`. It imports `components` and `schema`, never
TensorFlow: a proposal takes seconds.
"""
