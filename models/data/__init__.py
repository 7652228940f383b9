"""What models read, and nothing that learns.

* `item_table`, `event_log`: the catalogue and the events of a shop as columns.
* `example_io`, `arrays`: tf.Examples, Numpy arrays and Parquet files on any file system.
* `preprocessing`: what the two Transforms do, and the time features that serving shares.
* `requests`: a request's strings turned into item rows and codes.
* `frozen`, `parameters`: large tables inside a graph, and what exported functions read of a model.

Imports `schema` only; everything above `schema` may import it, except serving.
"""
