"""Items by the exact name in a query, and by what people chose who searched for the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.search.hashing import SortedKeys


@dataclasses.dataclass(frozen=True)
class ItemLists:
    """Items by key. E entries.

    Attributes:
      key: int64 [E], ascending.
      position: int32 [E], best first within a key.
      weight: float32 [E], each item's share of its key.
    """

    key: np.ndarray
    position: np.ndarray
    weight: np.ndarray


def build_lists(
    key: np.ndarray, position: np.ndarray, weight: np.ndarray, most: int | None = None
) -> ItemLists:
    """Lists out of entries in any order.

    Args:
      key: int64 [N].
      position: int32 [N].
      weight: float [N], above 0; entries of one key and position are added up.
      most: keys with more items are left out, since they name a kind, not an item; None keeps all.
    """
    order = np.lexsort((position, key))
    key, position, weight = key[order], position[order], np.asarray(weight, np.float64)[order]
    first = np.ones(len(key), bool)
    first[1:] = (key[1:] != key[:-1]) | (position[1:] != position[:-1])
    group = np.cumsum(first) - 1
    weight = np.bincount(group, weight, minlength=int(first.sum()))
    key, position = key[first], position[first]
    distinct, owner, count = np.unique(key, return_inverse=True, return_counts=True)
    share = weight / np.bincount(owner, weight, minlength=len(distinct))[owner]
    order = np.lexsort((-share, key))
    if most is not None:
        order = order[count[owner[order]] <= most]
    return ItemLists(key[order], position[order].astype(np.int32), share[order].astype(np.float32))


class ItemLookup(tf.Module):
    """The items of keys.

    Args:
      lists: the tables.
      count: C, the position that stands for none.
      size: K, items of a key that are read.
    """

    def __init__(self, lists: ItemLists, count: int, size: int) -> None:
        super().__init__(name="item_lookup")
        self._keys = SortedKeys(lists.key)
        self._count, self._size = count, size
        self._position = frozen_table(np.append(lists.position, count), tf.int32)
        self._weight = frozen_table(np.append(lists.weight, 0), tf.float32)

    def __call__(self, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(int32 [B, K] positions, best first, C where there are fewer; float32 [B, K] shares) of keys
        (int64 [B]).
        """
        start, end = self._keys.run(key)
        entry = start[:, None] + tf.range(self._size)
        entry = tf.where(entry < end[:, None], entry, self._keys.size)
        return tf.gather(self._position, entry), tf.gather(self._weight, entry)
