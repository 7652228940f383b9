"""How large a request may be, checked in the graph: every server that runs it obeys."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from schema import names as F
from schema.config import Serving


class Limits:
    """Refuses requests that would cost far more than what they are sent as.

    A tensor of one value may stand for millions (`TensorProto` repeats the last one), so the length of
    a message bounds nothing.

    Args:
      serving: `max_rows`, `max_candidates`, `max_explained`.
    """

    def __init__(self, serving: Serving) -> None:
        self._rows = serving.max_rows
        self._candidates, self._explained = serving.max_candidates, serving.max_explained

    def rows(self, inputs: Mapping[str, tf.Tensor], name: str) -> dict[str, tf.Tensor]:
        """The inputs, which cannot be read before the number of rows (the size of input `name`) is known."""
        return _bounded(inputs, tf.size(inputs[name]), self._rows, "rows in a request", "max_rows")

    def candidates(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The same for the candidates of a row."""
        count = tf.shape(inputs[F.CANDIDATE_ITEM_ID])[1]
        return _bounded(inputs, count, self._candidates, f"{F.CANDIDATE_ITEM_ID} in a row", "max_candidates")

    def explained(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The same for candidates to explain, each of which is ranked hundreds of times."""
        count = tf.shape(inputs[F.CANDIDATE_ITEM_ID])[1]
        return _bounded(
            inputs, count, self._explained, f"{F.CANDIDATE_ITEM_ID} to explain in a row", "max_explained"
        )


def _bounded(
    inputs: Mapping[str, tf.Tensor], count: tf.Tensor, most: int, of: str, setting: str
) -> dict[str, tf.Tensor]:
    # Not `assert_less_equal`, which adds ops to word its message; this is one comparison and one assertion.
    check = tf.debugging.Assert(
        count <= most, [f"at most {most} {of} (serving.{setting}); ask in parts. This one has", count]
    )
    # whatever reads an input waits for the check
    with tf.control_dependencies([check]):
        return {name: tf.identity(value) for name, value in inputs.items()}
