"""tf.Examples in TFRecord files as Arrow columns, both ways, without a Python loop over features."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders import example_coder

from schema.errors import DataError

_READ_BATCH = 2048


def record_files(folder: str) -> list[str]:
    """The TFRecord files of one split's folder, sorted.

    Raises:
      DataError: there is none.
    """
    files = sorted(
        path for path in tf.io.gfile.glob(os.path.join(folder, "*")) if os.path.basename(path)[0] not in "._"
    )
    if not files:
        raise DataError(f"{folder}: no TFRecord file; run the component that writes this split again")
    return files


def read_table(folders: str | Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
    """Reads splits of tf.Examples into one Arrow table of list columns.

    Args:
      folders: one or several split folders.
      columns: features to keep; all by default.

    Returns:
      A table; each column is a list array (empty or null where an example lacks the feature).
    """
    folders = [folders] if isinstance(folders, str) else list(folders)
    files = [path for folder in folders for path in record_files(folder)]
    kind = "GZIP" if files[0].endswith(".gz") else ""
    decoder = example_coder.ExamplesToRecordBatchDecoder()
    batches = []
    for batch in tf.data.TFRecordDataset(files, kind).batch(_READ_BATCH).as_numpy_iterator():
        decoded = decoder.DecodeBatch(batch.tolist())
        if columns is not None:
            decoded = decoded.select([name for name in columns if name in decoded.schema.names])
        batches.append(pa.Table.from_batches([decoded]))
    # a split may hold no example at all (nobody bought anything in a window)
    return pa.concat_tables(batches, promote_options="permissive") if batches else pa.table({})


def write_records(folder: str, batches: Iterable[pa.RecordBatch], name: str = "data_tfrecord") -> int:
    """Writes record batches of list columns as one gzipped TFRecord file of tf.Examples.

    Args:
      folder: split folder, created if missing.
      batches: record batches whose columns are list<binary|large_binary|float32|int64>.
      name: prefix of the file's name.

    Returns:
      The number of examples written.
    """
    tf.io.gfile.makedirs(folder)
    path = os.path.join(folder, f"{name}-00000-of-00001.gz")
    count = 0
    with tf.io.TFRecordWriter(
        path, tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)
    ) as writer:
        for batch in batches:
            for record in example_coder.RecordBatchToExamplesEncoder().encode(batch):
                writer.write(record)
                count += 1
    return count


def to_table(features: Mapping[str, tf.Tensor | tf.SparseTensor]) -> pa.Table:
    """A batch of parsed features as list columns, as :func:`read_table` gives them.

    Args:
      features: dense [B] or sparse [B, any].
    """
    columns = {}
    for name, feature in features.items():
        if isinstance(feature, tf.SparseTensor):
            size = np.bincount(feature.indices[:, 0], minlength=int(feature.dense_shape[0]))
            values = feature.values.numpy()
        else:
            size, values = np.ones(len(feature), np.int64), feature.numpy()
        offsets = pa.array(np.concatenate([[0], np.cumsum(size)]), pa.int64())
        columns[name] = pa.LargeListArray.from_arrays(offsets, pa.array(values))
    return pa.table(columns)


def flat(table: pa.Table, column: str) -> np.ndarray:
    """All values of a list column in order, bytes as str.

    Args:
      table: from :func:`read_table`.
      column: a list column.

    Returns:
      1-D array; object array of str for binary columns.
    """
    if column not in table.schema.names:
        return np.zeros(0, np.float32)
    values = pa.compute.list_flatten(table.column(column)).combine_chunks()
    return to_numpy(values)


def to_numpy(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A flat Arrow array as numpy; binary becomes an object array of str."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        values = values.cast(pa.large_string())
    return values.to_numpy(zero_copy_only=False)


def lengths(table: pa.Table, column: str) -> np.ndarray:
    """Number of values of a list column in each row, int64 [rows]."""
    if column not in table.schema.names:
        return np.zeros(table.num_rows, np.int64)
    return (
        pa.compute.fill_null(pa.compute.list_value_length(table.column(column)), 0)
        .to_numpy()
        .astype(np.int64)
    )


def first(table: pa.Table, column: str, default: object) -> np.ndarray:
    """The first value of a list column in each row, `default` where the list is empty or missing."""
    size = lengths(table, column)
    sample = np.asarray([default])
    out = np.full(table.num_rows, default, dtype=object if sample.dtype.kind == "U" else sample.dtype)
    values = flat(table, column)
    if len(values):
        start = np.concatenate([[0], np.cumsum(size)[:-1]])
        has = size > 0
        out[has] = values[start[has]]
    return out


def split_path(uri: str, split: str) -> str:
    """Where a split lies inside an Examples artifact."""
    return os.path.join(uri, f"Split-{split}")


def split_folder(uri: str, split: str) -> str:
    """Folder of a split inside an Examples artifact.

    Raises:
      DataError: the artifact has no such split.
    """
    folder = split_path(uri, split)
    if not tf.io.gfile.isdir(folder):
        have = sorted(os.path.basename(path) for path in glob.glob(os.path.join(uri, "Split-*")))
        raise DataError(f"{uri}: no split '{split}'; it has {have}")
    return folder
