"""A block of features: their names, the groups that they explain, and the code that computes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from models.ranking.features.context import PairContext

# The groups among which an explanation shares a score out, in the order in which they are listed.
OWN_PURCHASES = "own_purchases"
OWN_VIEWS = "own_views"  # only in a shop with events that are no purchases
GOES_WITH = "goes_with"
TASTE = "taste"
MATCH = "match"
OFFER = "offer"
ACTIVITY = "activity"
POPULARITY = "popularity"
GROUPS = (OWN_PURCHASES, OWN_VIEWS, GOES_WITH, TASTE, MATCH, OFFER, ACTIVITY, POPULARITY)


@dataclasses.dataclass(frozen=True)
class Column:
    """One feature's place in the output.

    Attributes:
      name: unique among all features.
      group: which group of an explanation it belongs to; one of `GROUPS`, or a new one.
    """

    name: str
    group: str


@dataclasses.dataclass(frozen=True)
class Feature(Column):
    """A feature with the code that computes it.

    Attributes:
      value: gives the feature's values, float32 [B, N].
    """

    value: Callable[[PairContext], tf.Tensor]


class FeatureBlock(tf.Module):
    """Features that are computed together.

    Args:
      columns: name and group of each feature, in order.
      compute: gives their values, float32 [B, N, n], or several such tensors whose widths n add
        up to the number of columns.
      tables: variables that `compute` reads; they are exported with the graph.

    Attributes:
      columns, tables: the arguments.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        compute: Callable[[PairContext], tf.Tensor | Sequence[tf.Tensor]],
        tables: Sequence[tf.Variable] = (),
    ) -> None:
        super().__init__(name="feature_block")
        self.columns = tuple(columns)
        self._compute = compute
        self.tables = list(tables)

    @classmethod
    def stacked(
        cls,
        features: Sequence[Feature],
        tables: Sequence[tf.Variable] = (),
        then: Callable[[tf.Tensor, PairContext], tf.Tensor] = lambda values, _: values,
    ) -> FeatureBlock:
        """A block of features that have code of their own.

        Args:
          features: in order.
          tables: variables that they read.
          then: gives float32 [B, N, n] from the stacked values, float32 [..., n], and the pairs: one
            op for all features costs no more than for one.
        """

        def compute(pairs: PairContext) -> tf.Tensor:
            return then(tf.stack([feature.value(pairs) for feature in features], -1), pairs)

        return cls(features, compute, tables)

    def __call__(self, pairs: PairContext) -> list[tf.Tensor]:
        """The features' values, float32 [B, N, n] each; all n add up to the number of columns.

        Raises:
          ValueError: the code gives more or fewer values than there are columns.
        """
        found = self._compute(pairs)
        parts = list(found) if isinstance(found, Sequence) else [found]
        width = sum(part.shape[-1] for part in parts)
        if width != len(self.columns):
            names = [column.name for column in self.columns]
            raise ValueError(f"{width} values for the {len(names)} features {names}")
        return parts
