"""The BERT text encoder: its graph, the groups of texts that it learns from, and its training.

* `encoder`: BERT as a layer that maps texts to unit vectors.
* `groups`: which texts belong together, from what households did. `noise`: texts as people write them.
* `losses`, `batches`, `training`, `strategy`: fine-tuning.

Imports `schema` only; imported by components and benchmarks, and by no other room of `models`: what the
others need of a text is its vector, which TextEncoderTrainer writes. `encoder`, `losses` and `training`
are the only modules that touch Keras 3 (KerasHub); all other models are Keras 2 (`tf_keras`).
"""
