"""How large a request may be, checked in the graph: every server that runs it obeys."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

from schema import names as F
from schema.config import Serving
from schema.config.serving import EVALUATED_ROWS

Inputs = Mapping[str, tf.Tensor]
_Most = tuple[int, str]  # a limit, and the setting that it comes from
_PAIRS_AT_ONCE = (
    1 << 14
)  # their features, the ranker's hidden layers and the sources' ranks take some 4 KB each


class Limits:
    """Refuses requests that would cost far more than what they are sent as.

    A tensor of one value may stand for millions (`TensorProto` repeats the last one), so the length of
    a message bounds nothing. Each method gives the inputs, which cannot be read before they are checked.

    Args:
      serving: `max_rows` and the other settings of that name.
      candidates: C, of which each row of a request may have a score.
      places: candidates that the sources give to a row at most.

    Attributes:
      scored_at_once: rows for each of which all candidates may get a score at the same time.
    """

    def __init__(self, serving: Serving, candidates: int, places: int) -> None:
        rows = serving.max_rows, "max_rows"
        self.scored_at_once = max(serving.max_scores // max(candidates, 1), 1)
        scores = max(self.scored_at_once, EVALUATED_ROWS), "max_scores"
        pairs = serving.max_pairs // serving.pairs_of(places), "max_pairs"
        self._rows, self._texts = rows, min(rows, (serving.max_texts, "max_texts"))
        self._scored, self._recommended = min(rows, scores), min(rows, scores, pairs)
        self._searched = min(self._recommended, self._texts)
        self._candidates = serving.max_candidates, "max_candidates"
        self._pairs = serving.max_pairs, "max_pairs"
        self._explained = serving.max_explained, "max_explained"

    def rows(self, inputs: Inputs, name: str) -> dict[str, tf.Tensor]:
        """Rows (the size of input `name`), each of which costs little."""
        return _bounded(inputs, tf.size(inputs[name]), self._rows, _ROWS)

    def texts(self, inputs: Inputs) -> dict[str, tf.Tensor]:
        """Rows that are texts to encode."""
        return _bounded(inputs, tf.size(inputs[F.TEXT]), self._texts, _ROWS)

    def scored(self, inputs: Inputs, name: str) -> dict[str, tf.Tensor]:
        """Rows (the size of input `name`) for each of which all candidates get a score."""
        return _bounded(inputs, tf.size(inputs[name]), self._scored, _ROWS)

    def recommended(self, inputs: Inputs) -> dict[str, tf.Tensor]:
        """The same, and for each of which what the sources give is ranked, and the best are shown."""
        return _bounded(inputs, tf.size(inputs[F.USER_ID]), self._recommended, _ROWS)

    def searched(self, inputs: Inputs) -> dict[str, tf.Tensor]:
        """Rows that are queries to encode, for each of which all items get a score and some are ranked."""
        return _bounded(inputs, tf.size(inputs[F.QUERY]), self._searched, _ROWS)

    def candidates(self, inputs: Inputs) -> dict[str, tf.Tensor]:
        """Candidates of a row."""
        count = tf.shape(inputs[F.CANDIDATE_ITEM_ID])[1]
        return _bounded(inputs, count, self._candidates, f"{F.CANDIDATE_ITEM_ID} in a row")

    def pairs(self, inputs: Inputs) -> dict[str, tf.Tensor]:
        """Candidates of all rows."""
        return _bounded(inputs, _pairs(inputs), self._pairs, f"{F.CANDIDATE_ITEM_ID} in a request")

    def explained(self, inputs: Inputs) -> dict[str, tf.Tensor]:
        """Candidates of all rows, each of which is ranked hundreds of times."""
        of = f"{F.CANDIDATE_ITEM_ID} to explain in a request"
        return _bounded(inputs, _pairs(inputs), self._explained, of)


def in_parts(
    work: Callable[[dict[str, tf.Tensor]], tf.Tensor],
    inputs: Inputs,
    rows: int,
    answers: int,
    pairs: int = _PAIRS_AT_ONCE,
) -> tf.Tensor:
    """What `work` gives for `inputs`, of which it gets some rows at a time.

    Args:
      work: float32 [A, R, N] of R rows of the inputs.
      inputs: tensors of B rows, among them `candidate_item_id` [B, N].
      rows: R at most.
      answers: A.
      pairs: R times N at most, unless one row has more.

    Returns:
      float32 [A, B, N].
    """
    count, width = tf.unstack(tf.shape(inputs[F.CANDIDATE_ITEM_ID]))
    rows = tf.clip_by_value(pairs // tf.maximum(width, 1), 1, rows)

    def step(start: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        more = work({name: value[start : start + rows] for name, value in inputs.items()})
        return start + rows, tf.concat([done, more], 1)

    nothing = tf.zeros(tf.stack([answers, 0, width]))
    shapes = (tf.TensorShape([]), tf.TensorShape([answers, None, None]))
    return tf.while_loop(
        lambda start, _: start < count, step, (tf.constant(0), nothing), shapes, parallel_iterations=1
    )[1]


_ROWS = "rows in a request"


def _pairs(inputs: Inputs) -> tf.Tensor:
    return tf.size(inputs[F.CANDIDATE_ITEM_ID], tf.int64)


def _bounded(inputs: Inputs, count: tf.Tensor, most: _Most, of: str) -> dict[str, tf.Tensor]:
    # Not `assert_less_equal`, which adds ops to word its message; this is one comparison and one assertion.
    limit, setting = most
    check = tf.debugging.Assert(
        count <= limit, [f"at most {limit} {of} (serving.{setting}); ask in parts. This one has", count]
    )
    # whatever reads an input waits for the check
    with tf.control_dependencies([check]):
        return {name: tf.identity(value) for name, value in inputs.items()}
