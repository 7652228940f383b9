"""Records as another run of the pipeline could have written them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from models.data import example_io


def shuffled(folder: str, target: Path, seed: int) -> str:
    """A split folder with the same records in another order, in two files.

    Args:
      folder: of one gzipped file.
      target: is made.
      seed: of the order.

    Returns:
      The target as a string.
    """
    kind = tf.io.TFRecordOptions(compression_type="GZIP")
    (file,) = example_io.record_files(folder)
    records = list(tf.data.TFRecordDataset(file, "GZIP").as_numpy_iterator())
    order = np.random.default_rng(seed).permutation(len(records))
    target.mkdir(parents=True)
    for part, places in enumerate(np.split(order, [len(order) // 3])):
        with tf.io.TFRecordWriter(str(target / f"data_tfrecord-0000{part}-of-00002.gz"), kind) as writer:
            for place in places:
                writer.write(records[place])
    return str(target)
