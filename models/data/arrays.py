"""Numpy arrays and Arrow tables on any file system that TensorFlow knows."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf


def save(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays as one .npz; the folder is created if missing."""
    buffer = io.BytesIO()  # np.savez seeks, remote files cannot
    np.savez(buffer, **arrays)
    _write(path, buffer.getvalue())


def load(path: str) -> dict[str, np.ndarray]:
    """Reads what :func:`save` wrote."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return dict(np.load(io.BytesIO(file.read())))


def save_parquet(path: str, table: pa.Table) -> None:
    """Writes a table as one Parquet file; the folder is created if missing."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    _write(path, sink.getvalue().to_pybytes())


def load_parquet(path: str) -> pa.Table:
    """Reads what :func:`save_parquet` wrote."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return pq.read_table(pa.BufferReader(file.read()))


def _write(path: str, content: bytes) -> None:
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(content)
