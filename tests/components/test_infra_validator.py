"""A real server says whether a model can be served."""

import os
import shutil
import time

import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from components import shop
from components.infra_validator import executor
from tests.models import tiny_shop

pytestmark = pytest.mark.slow


def export(folder, result):
    """A SavedModel whose signature `serving_default` gives `result`, with one warm-up request."""
    module = tf.Module()
    module.answer = tf.function(
        lambda x: {"y": tf.cast(x, tf.float32)[:, None] * 0 + result},
        input_signature=[tf.TensorSpec([None], tf.int32, "x")],
    )
    tf.saved_model.save(module, str(folder), signatures=module.answer)
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "shelfwise", "serving_default"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1, 2], tf.int32))
    os.makedirs(folder / "assets.extra")
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(prediction_log_pb2.PredictionLog(predict_log={"request": request}).SerializeToString())
    return str(folder)


def test_the_servable_passes():
    folder = shop.model_folder(tiny_shop.built().servable)
    passed, found = executor.validate(folder)
    assert passed, found
    assert found.startswith("28 requests answered over gRPC, median ")


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (tf.constant([[float("nan")]]), "not finite"),
        (tf.zeros([2, 0]), "signature serving_default: output 'y' is empty"),
    ],
)
def test_answers_that_are_not_sound(tmp_path, result, reason):
    passed, found = executor.validate(export(tmp_path / "model", result))
    assert not passed
    assert reason in found


@pytest.mark.parametrize("broken", ["graph", "variables"])
def test_a_model_that_cannot_be_loaded_is_refused_at_once(tmp_path, broken):
    folder = tmp_path / "model"
    if broken == "graph":
        export(folder, tf.ones([1, 1]))
        (folder / "saved_model.pb").write_bytes(b"not a graph")
    else:
        shutil.copytree(shop.model_folder(tiny_shop.text_encoder()[0]), folder)
        shutil.copytree(
            os.path.join(shop.model_folder(tiny_shop.built().servable), "assets.extra"),
            folder / "assets.extra",
        )
        (folder / "variables" / "variables.index").unlink()
    started = time.monotonic()
    passed, reason = executor.validate(str(folder))
    assert not passed
    assert "the model server did not serve the model" in reason
    assert "\n" not in reason
    assert time.monotonic() - started < 90


def test_a_model_without_requests_is_not_blessed(tmp_path):
    passed, reason = executor.validate(str(tmp_path))
    assert not passed
    assert "no warm-up requests" in reason
