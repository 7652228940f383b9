"""Nearest item vectors of a query, in stock TensorFlow ops; one kind of index a file.

An index only decides which candidates are found. Their scores are always the float32 dot products
of `base.VectorIndex.score`, so that a feature made from them is the same whatever the index is.

* `base`: what every index can do. `plan`: how vectors are searched, as CandidateIndex stores it.
* `exact`: one matrix product with all vectors.
* `int8`: the same over vectors of one byte a dimension, a block at a time: the least memory.
* `ivf`: the vectors lie in lists around centroids, and a query reads the nearest lists;
  `ivf_int8` is the same with one byte a dimension.
* `kinds`: the table of all kinds; `build_index` and `make_plan` choose from it.

A new kind is one file with a subclass of `VectorIndex`, and one entry in `kinds.INDEXES`; the setting
`candidates.index` then accepts its name (`schema.config`).
"""
