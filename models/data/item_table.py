"""The catalogue as columns: one row an item, row 0 standing for "no item / unknown item"."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pyarrow as pa
import tensorflow as tf

from models.data import arrays, example_io
from schema import names as F


@dataclasses.dataclass(frozen=True)
class ItemTable:
    """Item attributes by row; row 0 is reserved (id "", text "", all categories 0).

    Attributes:
      item_id: object (str) [V].
      text: object (str) [V].
      categorical: name -> int32 [V] vocabulary index, 0 = missing.
      vocabularies: name -> object (str) [size], index 0 = "".
      exposure_week, exposure_row: int64/int32 [X], one entry for each (item, week).
      exposure: channel -> float32 [X], number of stores.
    """

    item_id: np.ndarray
    text: np.ndarray
    categorical: dict[str, np.ndarray]
    vocabularies: dict[str, np.ndarray]
    exposure_row: np.ndarray
    exposure_week: np.ndarray
    exposure: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.item_id)

    @classmethod
    def from_transformed(
        cls, table: pa.Table, vocabularies: dict[str, list[str]], channels: list[str]
    ) -> ItemTable:
        """From transformed items (see `models.data.preprocessing.items_preprocessing_fn`).

        The table is the same in whatever order Transform wrote its records, which differs from run to run.

        Args:
          table: list columns, as `models.data.example_io` gives them.
          vocabularies: name -> vocabulary without the reserved first entry.
          channels: exposure channels.
        """
        order = np.argsort(example_io.first(table, F.ITEM_ID, ""), kind="stable")
        row = np.empty(len(order), np.int32)
        row[order] = np.arange(1, len(order) + 1)

        def column(name: str, default: object) -> np.ndarray:
            values = example_io.first(table, name, default)[order]
            return np.concatenate([np.asarray([default], values.dtype), values])

        exposed = np.repeat(row, example_io.lengths(table, F.EXPOSURE_WEEK))
        by_row = np.argsort(exposed, kind="stable")  # an item's weeks stay as they lie: ascending

        def per_week(name: str) -> np.ndarray:
            return example_io.flat(table, name)[by_row]

        return cls(
            item_id=column(F.ITEM_ID, ""),
            text=column(F.TEXT, ""),
            categorical={name: column(name, 0).astype(np.int32) for name in vocabularies},
            vocabularies={name: np.asarray(["", *values], object) for name, values in vocabularies.items()},
            exposure_row=exposed[by_row],
            exposure_week=per_week(F.EXPOSURE_WEEK).astype(np.int64),
            exposure={name: per_week(F.exposure(name)).astype(np.float32) for name in channels},
        )

    def same_items(self, other: ItemTable) -> bool:
        """Whether another table has the same items, in text and categories."""
        return (
            np.array_equal(self.item_id, other.item_id)
            and np.array_equal(self.text, other.text)
            and all(np.array_equal(code, other.categorical[name]) for name, code in self.categorical.items())
        )

    def save(self, folder: str) -> None:
        """Writes the table as items.npz (arrays) and items.json (strings)."""
        columns = {"exposure_row": self.exposure_row, "exposure_week": self.exposure_week}
        columns |= {f"categorical/{name}": values for name, values in self.categorical.items()}
        columns |= {f"exposure/{name}": values for name, values in self.exposure.items()}
        arrays.save(os.path.join(folder, "items.npz"), columns)
        strings = {
            "item_id": self.item_id.tolist(),
            "text": self.text.tolist(),
            "vocabularies": {name: values.tolist() for name, values in self.vocabularies.items()},
        }
        with tf.io.gfile.GFile(os.path.join(folder, "items.json"), "w") as file:
            json.dump(strings, file)

    @classmethod
    def load(cls, folder: str) -> ItemTable:
        """Reads what :meth:`save` wrote."""
        with tf.io.gfile.GFile(os.path.join(folder, "items.json")) as file:
            strings = json.load(file)
        columns = arrays.load(os.path.join(folder, "items.npz"))

        def group(prefix: str) -> dict[str, np.ndarray]:
            return {
                name.removeprefix(prefix): values
                for name, values in columns.items()
                if name.startswith(prefix)
            }

        return cls(
            item_id=np.asarray(strings["item_id"], object),
            text=np.asarray(strings["text"], object),
            categorical=group("categorical/"),
            vocabularies={
                name: np.asarray(values, object) for name, values in strings["vocabularies"].items()
            },
            exposure_row=columns["exposure_row"],
            exposure_week=columns["exposure_week"],
            exposure=group("exposure/"),
        )
