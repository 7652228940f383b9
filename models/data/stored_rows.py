"""Rows of numbers in a file: written once, read a few at a time, so that memory stays flat."""

from __future__ import annotations

import os
import tempfile

import numpy as np


class StoredRows:
    """An array [R, ...] in a temporary file that goes with the object.

    Plain reads and not a memory map: pages of a map count as the process's memory.

    Args:
      shape: R and the shape of a row.
      dtype: of the numbers.

    Attributes:
      shape, dtype: the arguments.
    """

    def __init__(self, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self._size = int(np.prod(shape[1:])) * self.dtype.itemsize
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the object)

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Writes rows (int [N]) of values [N, ...].

        Raises:
          ValueError: the values are not rows of this shape.
        """
        values = np.ascontiguousarray(values, self.dtype)
        if values.shape != (len(rows), *self.shape[1:]):
            raise ValueError(f"values of shape {values.shape} for {len(rows)} rows of {self.shape[1:]}")
        for row, value in zip(rows.tolist(), values, strict=True):
            os.pwrite(self._file.fileno(), value.data, row * self._size)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Rows (int [N]) as an array [N, ...]; zeros where nothing was written."""
        out = np.zeros((len(rows), *self.shape[1:]), self.dtype)
        for row, target in zip(rows.tolist(), out, strict=True):
            os.preadv(self._file.fileno(), [target], row * self._size)
        return out

    def picked(self, rows: np.ndarray, places: np.ndarray, block: int = 256) -> np.ndarray:
        """Single entries of rows, a block of rows in memory at a time.

        Args:
          rows, places: int [N]; places count along a row's first axis.
          block: rows.

        Returns:
          [N, ...], what `array[rows, places]` would be.
        """
        out = np.empty((len(rows), *self.shape[2:]), self.dtype)
        order = np.argsort(rows, kind="stable")
        distinct, first = np.unique(rows[order], return_index=True)
        bounds = np.append(first, len(order))
        for start in range(0, len(distinct), block):
            part = distinct[start : start + block]
            chosen = order[bounds[start] : bounds[start + len(part)]]
            out[chosen] = self[part][np.searchsorted(part, rows[chosen]), places[chosen]]
        return out
