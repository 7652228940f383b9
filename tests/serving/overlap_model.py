"""A small SavedModel with the contract's signatures, for the serving tests.

It recommends by overlap: items fall in ten groups, and an item scores by how much and how
lately its group occurs in the history. Small enough to recompute by hand, served for real.
"""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

ITEMS = [str(100 + place) for place in range(50)]
GROUPS = [place % 10 for place in range(50)]
CATEGORIES = [f"cat{group}" for group in GROUPS]
TEXTS = [f"Product {item} of café {group}" for item, group in zip(ITEMS, GROUPS, strict=True)]
PRICES = [-1.0, *(place / 100 for place in range(1, 50))]  # the first is not known
DEFAULT_K, MAX_K = 4, 65

STRING = tf.string


def popularity(boost: float) -> np.ndarray:
    """Score [50] that an item has without any history; later items are more popular."""
    return (np.arange(50) / 1000 + boost).astype(np.float32)


def expected_scores(history: list[tuple[str, float]], boost: float) -> np.ndarray:
    """Scores [50] by plain Python, to compare with."""
    weight = [0.0] * 10
    for item, age in history:
        if item in ITEMS:
            weight[GROUPS[ITEMS.index(item)]] += 1 / (1 + age)
    return popularity(boost) + np.array([weight[group] for group in GROUPS], np.float32)


def _spec(name: str, shape: list[int | None], dtype: tf.DType = STRING) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name=name)


_USER = [
    _spec("user_id", [None]),
    _spec("history_item_id", [None, None]),
    _spec("history_age_days", [None, None], tf.float32),
    _spec("history_event_type", [None, None]),
    _spec("context_store_id", [None]),
    _spec("context_timestamp", [None], tf.int64),
]


class OverlapModel(tf.Module):
    """See the module's docstring.

    Args:
      boost: added to every score, so that two versions can be told apart.
    """

    def __init__(self, boost: float) -> None:
        super().__init__()
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(ITEMS, tf.range(50, dtype=tf.int64)), default_value=-1
        )
        self._popularity = tf.Variable(popularity(boost))
        self._vectors = tf.Variable(tf.eye(10, 64))

    def boost(self, boost: float) -> None:
        """Changes what is added to every score."""
        self._popularity.assign(popularity(boost))

    def _scores(self, items: tf.Tensor, ages: tf.Tensor) -> tf.Tensor:
        index = self._table.lookup(items)
        weight = tf.where(index >= 0, 1 / (1 + ages), 0.0)
        groups = tf.one_hot(tf.where(index >= 0, index % 10, -1), 10)
        by_group = tf.einsum("bl,blg->bg", weight, groups)
        return tf.gather(by_group, GROUPS, axis=1) + self._popularity[tf.newaxis]

    def _top(self, scores: tf.Tensor, allowed: tf.Tensor, k: tf.Tensor, source: str) -> dict[str, tf.Tensor]:
        k = tf.minimum(tf.where(k > 0, k, DEFAULT_K), MAX_K)
        most = tf.reduce_max(k)
        values, index = tf.math.top_k(tf.where(allowed, scores, -1e9), tf.minimum(most, 50))
        found = (values > -1e8) & (tf.range(tf.shape(values)[1]) < tf.reshape(k, [-1, 1]))
        pad = [[0, 0], [0, tf.maximum(most - 50, 0)]]

        def text(strings: list[str]) -> tf.Tensor:
            return tf.pad(
                tf.where(found, tf.gather(tf.constant(strings), index), ""), pad, constant_values=""
            )

        return {
            "item_id": text(ITEMS),
            "item_text": text(TEXTS),
            "score": tf.pad(tf.where(found, values, 0.0), pad),
            "source": text([source] * 50),
            "reason": text([f"Group {group} is yours" for group in GROUPS]),
        }

    @tf.function(
        input_signature=[
            *_USER,
            _spec("exclude_item_id", [None, None]),
            _spec("category", [None, None]),
            _spec("k", [None], tf.int32),
        ]
    )
    def recommend(self, user_id, items, ages, types, store, timestamp, exclude, category, k):
        excluded = tf.reduce_any(exclude[:, :, tf.newaxis] == tf.constant(ITEMS), axis=1)
        unfiltered = tf.reduce_all(category == "", axis=1, keepdims=True)
        chosen = tf.reduce_any(category[:, :, tf.newaxis] == tf.constant(CATEGORIES), axis=1)
        return self._top(self._scores(items, ages), ~excluded & (unfiltered | chosen), k, "overlap")

    @tf.function(
        input_signature=[
            *_USER,
            _spec("query", [None]),
            _spec("category", [None, None]),
            _spec("max_price", [None], tf.float32),
            _spec("sort", [None]),
            _spec("k", [None], tf.int32),
        ]
    )
    def search(self, user_id, items, ages, types, store, timestamp, query, category, max_price, sort, k):
        """Items whose texts hold the query; item n costs n cents, but for the first, which has no price."""
        texts = tf.strings.lower(tf.constant(TEXTS))
        held = tf.map_fn(
            lambda words: tf.strings.regex_replace(texts, words, "") != texts,
            query,
            fn_output_signature=tf.bool,
        )
        unfiltered = tf.reduce_all(category == "", axis=1, keepdims=True)
        chosen = tf.reduce_any(category[:, :, tf.newaxis] == tf.constant(CATEGORIES), axis=1)
        price = tf.constant(PRICES)
        affordable = (max_price[:, tf.newaxis] < 0) | ((price <= max_price[:, tf.newaxis]) & (price >= 0))
        shown = held & (unfiltered | chosen) & affordable
        dearest = tf.where(sort[:, tf.newaxis] == "price_desc", price, 0.0)
        listed = self._top(self._scores(items, ages) + dearest, shown, k, "words")
        index = self._table.lookup(listed["item_id"])
        count = tf.reduce_sum(tf.cast(shown, tf.int32), 1)
        batch = tf.size(query)
        return listed | {
            "price": tf.where(index >= 0, tf.gather(price, tf.maximum(index, 0)), 0.0),
            "total": count,
            "relaxed": count == 0,
            "relaxed_query": query,
            "corrected_query": tf.fill([batch], ""),
            "notice": tf.where(count == 0, tf.strings.join(["Nothing has ", query]), ""),
            "price_range": tf.stack([tf.fill([batch], -1.0), max_price], 1),
            "facet_name": tf.repeat([["category", "category", ""]], batch, 0),
            "facet_value": tf.repeat([["cat0", "cat1", ""]], batch, 0),
            "facet_count": tf.stack([count, count // 2, tf.zeros_like(count)], 1),
            "intent_category": tf.repeat([["cat0", ""]], batch, 0),
            "intent_score": tf.repeat([[0.75, 0.0]], batch, 0),
            "intent_brand": tf.repeat([["", ""]], batch, 0),
            "intent_brand_score": tf.zeros([batch, 2]),
        }

    @tf.function(input_signature=[*_USER, _spec("prefix", [None]), _spec("k", [None], tf.int32)])
    def suggest(self, user_id, items, ages, types, store, timestamp, prefix, k):
        """The prefix with each of three endings, likeliest first."""
        ends = tf.repeat(tf.constant([["", "s", " set"]]), tf.size(prefix), 0)
        shown = tf.range(3) < k[:, tf.newaxis]
        return {
            "completion": tf.where(
                shown, tf.strings.join([tf.repeat(prefix[:, tf.newaxis], 3, 1), ends]), ""
            ),
            "score": tf.where(shown, [[3.0, 2.0, 1.0]], 0.0),
        }

    @tf.function(input_signature=[_spec("item_id", [None]), _spec("k", [None], tf.int32)])
    def similar(self, item, k):
        return self._near(item, k)

    @tf.function(input_signature=[_spec("item_id", [None]), _spec("k", [], tf.int32)])
    def similar_scalar(self, item, k):
        """As `similar`, with one `k` for the batch: other people's models have such inputs."""
        return self._near(item, k)

    def _near(self, item, k):
        scores = self._scores(item[:, tf.newaxis], tf.zeros_like(item[:, tf.newaxis], tf.float32))
        return self._top(scores, item[:, tf.newaxis] != tf.constant(ITEMS), k, "similar")

    @tf.function(input_signature=[*_USER, _spec("candidate_item_id", [None, None])])
    def rank(self, user_id, items, ages, types, store, timestamp, candidates):
        index = self._table.lookup(candidates)
        scores = tf.gather(self._scores(items, ages), tf.maximum(index, 0), batch_dims=1)
        scores = tf.where(index >= 0, scores, 0.0)
        return {"score": scores, "p_purchase": tf.sigmoid(scores)}

    @tf.function(input_signature=[*_USER, _spec("candidate_item_id", [None, None])])
    def explain(self, user_id, items, ages, types, store, timestamp, candidates):
        """What an item's score is made of: the history, and how popular it is."""
        index = tf.maximum(self._table.lookup(candidates), 0)
        score = tf.gather(self._scores(items, ages), index, batch_dims=1)
        popular = tf.gather(self._popularity, index)
        return {
            "log_odds": score,
            "baseline": tf.zeros_like(score),
            "attribution": tf.stack([score - popular, popular], -1),
            "group": tf.repeat(tf.constant([["history", "popularity"]]), tf.shape(score)[0], 0),
            "feature": popular[..., None],
            "feature_name": tf.repeat(tf.constant([["popularity"]]), tf.shape(score)[0], 0),
        }

    @tf.function(input_signature=[_spec("text", [None])])
    def embed_text(self, text):
        words = tf.strings.split(text)
        counts = tf.reduce_sum(
            tf.one_hot(tf.strings.to_hash_bucket_fast(words, 384), 384).to_tensor(), axis=1
        )
        return {"embedding": tf.math.l2_normalize(counts, axis=1)}

    @tf.function(input_signature=_USER)
    def embed_user(self, user_id, items, ages, types, store, timestamp):
        return {"embedding": tf.matmul(self._scores(items, ages)[:, :10], self._vectors)}

    @tf.function(input_signature=[_spec("item_id", [None])])
    def embed_item(self, item):
        return {"embedding": tf.gather(self._vectors, tf.maximum(self._table.lookup(item), 0) % 10)}

    @tf.function(input_signature=[_spec("examples", [None])])
    def serving_default(self, examples):
        parsed = tf.io.parse_example(examples, {"candidate_item_id": tf.io.FixedLenFeature([2], STRING)})
        index = tf.maximum(self._table.lookup(parsed["candidate_item_id"]), 0)
        return {"p_purchase": tf.sigmoid(tf.gather(self._popularity, index))}

    @tf.function(input_signature=[_spec("inputs", [None])])
    def classification(self, inputs):
        """Two classes an example: likely and unlikely to be bought."""
        likely = self.serving_default(inputs)["p_purchase"][:, :1]
        classes = tf.tile(tf.constant([["likely", "unlikely"]]), [tf.shape(inputs)[0], 1])
        return {"classes": classes, "scores": tf.concat([likely, 1 - likely], axis=1)}

    @tf.function(input_signature=[_spec("inputs", [None])])
    def regression(self, inputs):
        return {"outputs": self.serving_default(inputs)["p_purchase"][:, 0]}

    @tf.function(input_signature=[_spec("seconds", [], tf.float64)])
    def busy(self, seconds):
        """Takes so long: stands for a heavy request. It sleeps: the processor is for the tests."""
        end = tf.timestamp() + seconds
        rounds = tf.while_loop(lambda _: tf.timestamp() < end, _sleep, [tf.constant(0)])
        return {"rounds": rounds[0]}

    @tf.function(input_signature=[_spec("begun", []), _spec("until", [])])
    def held(self, begun, until):
        """Writes the file `begun`, and answers once there is a file `until`: lasts as long as a test says."""

        def missing(count: tf.Tensor) -> tf.Tensor:
            # Of the count too: an op without state on a constant need be asked only once.
            path = tf.strings.join([until, tf.strings.substr(tf.strings.as_string(count), 0, 0)])
            return tf.size(tf.io.matching_files(path)) == 0

        with tf.control_dependencies([tf.io.write_file(begun, "")]):
            rounds = tf.while_loop(missing, _sleep, [tf.constant(0)])
        return {"rounds": rounds[0]}


def _sleep(count: tf.Tensor) -> list[tf.Tensor]:
    """Sleeps for 5 ms, then counts one more."""
    one = tf.data.Dataset.from_tensors(1)
    late = tf.raw_ops.SleepDataset(
        input_dataset=tf.data.experimental.to_variant(one),
        sleep_microseconds=tf.constant(5000, tf.int64),
        output_types=[tf.int32],
        output_shapes=[[]],
    )
    slept = tf.data.experimental.from_variant(late, one.element_spec)
    return [slept.reduce(count, lambda total, one: total + one)]


def export(path: str, boost: float, model: OverlapModel | None = None) -> OverlapModel:
    """Writes the model as a SavedModel with two warm-up requests.

    Args:
      path: the folder to write, of any name.
      boost: see `OverlapModel`.
      model: one that was exported before: what takes seconds is to trace its functions.

    Returns:
      The model.
    """
    model = model or OverlapModel(boost)
    model.boost(boost)
    names = (
        "recommend",
        "search",
        "suggest",
        "similar",
        "similar_scalar",
        "rank",
        "explain",
        "embed_text",
        "embed_user",
        "embed_item",
        "serving_default",
        "classification",
        "regression",
        "busy",
        "held",
    )
    tf.saved_model.save(model, path, signatures={name: getattr(model, name) for name in names})
    write_warmup(path, [("similar", {"item_id": ["100"], "k": [3]}), ("embed_text", {"text": ["bread"]})])
    return model


def write_warmup(path: str, requests: list[tuple[str, dict[str, object]]]) -> None:
    """Writes `assets.extra/tf_serving_warmup_requests` of a SavedModel."""
    folder = os.path.join(path, "assets.extra")
    os.makedirs(folder, exist_ok=True)
    with tf.io.TFRecordWriter(os.path.join(folder, "tf_serving_warmup_requests")) as writer:
        for signature, inputs in requests:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(predict_request(signature, inputs))
            writer.write(log.SerializeToString())


def predict_request(
    signature: str, inputs: dict[str, object], model: str = "shelfwise"
) -> predict_pb2.PredictRequest:
    """A request as a TensorFlow Serving user writes it."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(
            value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value)
        )
    return request
