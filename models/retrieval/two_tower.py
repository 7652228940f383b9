"""The retrieval model: two towers trained with a sampled softmax over the batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from models.retrieval.towers import ItemTower, QueryTower

MEAN_LOSS = "mean_loss"
MINED_EACH = 8  # of one session: fewer sessions are searched for, and more of what is hard for them is found
_NONE = -1e9


class RetrievalModel(tfrs.Model):
    """Two towers and `tfrs.tasks.Retrieval` with the logQ correction.

    Args:
      query_tower: requests to vectors.
      item_tower: item rows to vectors.
      sampling_probability: float32 [V], the share of training targets that each item is: how
        often it turns up as an in-batch negative. Its logarithm is subtracted from the
        logits (Bengio and Senécal 2008; Yi et al., RecSys 2019), or popular items would be
        punished for being drawn often.
      temperature: divides the cosine similarities.
      known: int32 [K], the item rows that uniform negatives are drawn from and mined ones are found
        among.
      hard_negatives: how many negatives, those of the highest scores, are learned from; all by default.
      mined_negatives: rows mined for a batch, at most `MINED_EACH` a session, once :meth:`mine_from`
        has given the vectors that are searched.

    A training batch has the query tower's inputs for B sessions and `target_row` int32
    [B, P], P targets drawn from each session (0 = none): the query side runs once a session. With
    `target_weight` float32 [B] the targets of a session count as much in the loss. The
    negatives of a target are the batch's other targets and, if given, `negative_row` int32 [N],
    drawn uniformly (mixed negative sampling: Yang et al., WWW 2020), without the rows of
    `owned_row` int32 [B, O], which the session's user had at some time (0 = none).

    Mined negatives (Xiong et al., "Approximate nearest neighbor negative contrastive learning for
    dense text retrieval", ICLR 2021) are found by searching item vectors of some time ago with the
    queries of the batch's first sessions, a sample as batches are shuffled: the rows of the highest
    scores that their users never had. All sessions of the batch share them.

    The correction is that of all draws together, the logarithm of how often a row is expected among the
    candidates: targets times their share, plus uniform rows times theirs, plus the number of times that
    it was mined, for mining draws nothing: given the queries, what it finds is there for certain. Every
    row's expected weight in the softmax is then 1, mined or not (the balance heuristic of Veach and
    Guibas, SIGGRAPH 1995): the loss estimates the same softmax over all items, the terms that matter
    most to the mined sessions exactly. Without that term a mined row would weigh 1 + times mined /
    expected draws, tenfold where it is drawn in one batch of ten: another softmax, as in ANCE, in
    which what scores high is multiplied.
    """

    def __init__(
        self,
        query_tower: QueryTower,
        item_tower: ItemTower,
        sampling_probability: np.ndarray,
        temperature: float,
        known: np.ndarray,
        hard_negatives: int | None = None,
        mined_negatives: int = 0,
    ) -> None:
        super().__init__()
        self.query_tower = query_tower
        self.item_tower = item_tower
        self._sampling_probability = tf.constant(sampling_probability, tf.float32)
        uniform = np.zeros(len(sampling_probability), np.float32)
        uniform[known] = 1 / max(len(known), 1)
        self._uniform_probability = tf.constant(uniform)
        self._task = tfrs.tasks.Retrieval(
            temperature=temperature, remove_accidental_hits=True, num_hard_negatives=hard_negatives
        )
        self._mean_loss = tf.keras.metrics.Mean(MEAN_LOSS)
        self._mined_negatives = mined_negatives
        if mined_negatives:
            self._known_row = tf.constant(np.append(known, 0), tf.int32)  # 0 for position K, none
            place = np.full(len(sampling_probability), len(known), np.int32)
            place[known] = np.arange(len(known))
            self._place = tf.constant(place)
            vectors = np.zeros((len(known), item_tower.dim), np.float32)
            self._searched = tf.Variable(vectors, trainable=False, name="searched")
            self._mines = tf.Variable(False, trainable=False, name="mines")

    def mine_from(self, vectors: np.ndarray) -> None:
        """Mines negatives from now on among the known rows by their `vectors`, float32 [K, D]."""
        self._searched.assign(vectors)
        self._mines.assign(True)

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Mean cross-entropy, in nats, of the targets among the batch's targets (scalar)."""
        queries = self.query_tower(inputs, training=training)
        # a slot without a target stays and weighs nothing: XLA needs shapes that do not depend on values
        row = tf.reshape(inputs["target_row"], [-1])
        session = tf.repeat(tf.range(tf.shape(queries)[0]), tf.shape(inputs["target_row"])[1])
        targets = tf.reduce_sum(tf.cast(row > 0, tf.float32))
        weight, total = tf.cast(row > 0, tf.float32), targets
        if "target_weight" in inputs:
            weight *= tf.gather(inputs["target_weight"], session)
            total = tf.reduce_sum(weight)
        uniform = inputs.get("negative_row", tf.zeros([0], tf.int32))
        mined = self._mine(queries, inputs) if self._mined_negatives else tf.zeros([0], tf.int32)
        candidate = tf.concat([row, uniform, mined], 0)
        # how often an item is among the candidates: by the targets' draw, the uniform one, and mining
        drawn = targets * tf.gather(self._sampling_probability, candidate)
        drawn += tf.cast(tf.size(uniform), tf.float32) * tf.gather(self._uniform_probability, candidate)
        if self._mined_negatives:
            times = tf.math.unsorted_segment_sum(
                tf.ones_like(mined, tf.float32), mined, len(self._sampling_probability)
            )
            drawn += tf.gather(times, candidate)
        allowed = tf.repeat((candidate > 0)[None], tf.size(row), 0)
        if "owned_row" in inputs:
            free = not_among(candidate, inputs["owned_row"], len(self._sampling_probability))
            allowed &= tf.gather(free, session)
        count = tf.reduce_sum(tf.cast(candidate > 0, tf.float32))
        loss = self._task(
            tf.gather(queries, session),
            self.item_tower(candidate, training=training),
            sample_weight=weight,
            candidate_sampling_probability=drawn / tf.maximum(count, 1.0),
            candidate_ids=candidate,
            score_mask=allowed | tf.eye(tf.size(row), tf.size(candidate), dtype=tf.bool),
            compute_metrics=False,
            compute_batch_metrics=False,
        )
        # the task sums over the batch; a mean keeps the learning rate independent of its size
        loss /= tf.maximum(total, 1.0)
        self._mean_loss.update_state(loss)
        return loss

    def _mine(self, queries: tf.Tensor, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """int32 [at most mined_negatives], item rows that score best with sessions that did not take them;
        0 = none.
        """
        sessions = -(-self._mined_negatives // MINED_EACH)
        asks = tf.stop_gradient(queries[:sessions])
        # nothing is known of what a user outside the vocabulary owns, but the session itself tells something
        taken = [
            inputs[name][:sessions] for name in ("target_row", "history_row", "owned_row") if name in inputs
        ]
        taken = tf.gather(self._place, tf.concat(taken, 1))
        none = tf.size(self._known_row) - 1
        each = min(MINED_EACH, len(self._known_row) - 1)
        position = tf.cond(
            self._mines,
            lambda: best_without(asks, self._searched, taken, each),
            lambda: tf.fill([tf.shape(asks)[0], each], none),
        )
        return tf.gather(self._known_row, tf.reshape(position, [-1])[: self._mined_negatives])


def best_without(query: tf.Tensor, vectors: tf.Tensor, taken: tf.Tensor, k: int) -> tf.Tensor:
    """The largest dot products, without those of some vectors.

    Args:
      query: float32 [S, D].
      vectors: float32 [K, D], of the known rows.
      taken: int32 [S, T], places among them that are left out; K = none.
      k: at most K.

    Returns:
      int32 [S, k], places among the vectors, best first; K where too few are left.
    """
    score = tf.pad(tf.matmul(query, vectors, transpose_b=True), [[0, 0], [0, 1]])
    row = tf.repeat(tf.range(tf.shape(taken)[0]), tf.shape(taken)[1])
    index = tf.stack([row, tf.reshape(taken, [-1])], 1)
    score = tf.tensor_scatter_nd_update(score, index, tf.fill([tf.size(taken)], _NONE))
    value, position = tf.math.top_k(score[:, :-1], k)
    return tf.where(value > _NONE / 2, position, tf.shape(vectors)[0])


def not_among(candidate: tf.Tensor, owned: tf.Tensor, rows: int) -> tf.Tensor:
    """Which candidates a session's user never had.

    Args:
      candidate: int32 [N], rows, some of them several times.
      owned: int32 [B, O], rows; 0 = none.
      rows: V.

    Returns:
      bool [B, N].
    """
    count = tf.size(candidate)
    # where a row is first among the candidates; `count` for the many that are none
    slot = tf.minimum(tf.math.unsorted_segment_min(tf.range(count), candidate, rows), count)
    place = tf.gather(slot, candidate)
    slot = tf.where(owned > 0, tf.gather(slot, owned), count)
    batch = tf.shape(owned)[0]
    index = tf.stack([tf.repeat(tf.range(batch), tf.shape(owned)[1]), tf.reshape(slot, [-1])], 1)
    free = tf.tensor_scatter_nd_update(
        tf.ones([batch, count + 1], tf.bool), index, tf.zeros(tf.shape(index)[:1], tf.bool)
    )
    return tf.gather(free, place, axis=1)


def training_curves(history: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """The curves of a Keras history that say something.

    `tfrs.Model` logs the loss of an epoch's last batch, the regularisation loss (0 without
    regularisation) and their sum; the models here add the epoch's mean, which becomes `loss`.
    """
    dull = ("regularization_loss", "total_loss")
    last_batch = ("loss", "val_loss")
    kept = {
        name: values for name, values in history.items() if not name.endswith(dull) and name not in last_batch
    }
    return {name.replace(MEAN_LOSS, "loss"): values for name, values in kept.items()}
