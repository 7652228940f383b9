"""The smallest request that each signature takes, through a server and TensorFlow Serving's stock stubs.

A list that is optional may be empty: [B, 0] in a tensor, `[]` in JSON. Any mixture of such lists is valid.
"""

import itertools
import shutil

import numpy as np
import pytest
import tensorflow as tf

from components.common import artifacts
from schema import names as F
from schema.events import Event, UserState
from serving.client import Client
from tests.serving import http_client
from tests.serving.process import Server
from tests.serving.stubs import Stubs
from tests.shops import tiny_shop

HISTORY = (F.HISTORY_ITEM_ID, F.HISTORY_AGE_DAYS, F.HISTORY_EVENT_TYPE)
OPTIONAL = (HISTORY, (F.EXCLUDE_ITEM_ID,), (F.CATEGORY,))
FULL = {
    F.HISTORY_ITEM_ID: ["101", "103"],
    F.HISTORY_AGE_DAYS: [3.0, 2.0],
    F.HISTORY_EVENT_TYPE: ["purchase", "view"],
    F.EXCLUDE_ITEM_ID: ["102"],
    F.CATEGORY: ["dairy"],
    F.CANDIDATE_ITEM_ID: ["101", "104"],
}
PADDING = dict.fromkeys(FULL, "") | {F.HISTORY_AGE_DAYS: 0.0}
LISTS = ("recommend", "rank", "explain", "embed_user")


@pytest.fixture(scope="module")
def folder():
    return artifacts.model_folder(tiny_shop.built().servable)


@pytest.fixture(scope="module")
def signatures(folder):
    return tiny_shop.load(folder).signatures


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    shutil.copytree(folder, base / "1", ignore=shutil.ignore_patterns("assets.extra"))
    running = Server(base, tmp_path_factory.mktemp("server"), "--rest_api_port=-1")
    yield running.wait_serving(1)
    running.close()


def smallest(function, full=(), batch=1):
    """Inputs of a signature as numpy arrays: every scalar unset, every list empty unless it is in `full`."""
    inputs = {}
    for spec in function.structured_input_signature[1].values():
        dtype = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
        if spec.shape.rank == 2:
            values = FULL[spec.name] if spec.name in full or spec.name == F.CANDIDATE_ITEM_ID else []
            inputs[spec.name] = np.asarray([values] * batch, dtype).reshape(batch, len(values))
        else:
            inputs[spec.name] = np.asarray([b"" if dtype is object else 0] * batch, dtype)
    return inputs


def protos(function, inputs):
    """Tensors as a stock client writes them."""
    types = {spec.name: spec.dtype for spec in function.structured_input_signature[1].values()}
    return {name: tf.make_tensor_proto(values, types[name], values.shape) for name, values in inputs.items()}


def padded(inputs):
    """The same request, with a place of padding where a list is empty."""
    return {
        name: np.full((len(values), 1), PADDING[name], values.dtype)
        if values.ndim == 2 and not values.shape[1]
        else values
        for name, values in inputs.items()
    }


def call(function, inputs):
    types = {spec.name: spec.dtype for spec in function.structured_input_signature[1].values()}
    answer = function(**{name: tf.constant(values, types[name]) for name, values in inputs.items()})
    return {name: value.numpy() for name, value in answer.items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        if values.dtype == object:
            np.testing.assert_array_equal(values, other[name], err_msg=name)
        else:
            np.testing.assert_allclose(values, other[name], atol=1e-5, err_msg=name)


def mixtures():
    """Which optional lists are given, every subset."""
    for size in range(len(OPTIONAL) + 1):
        for chosen in itertools.combinations(OPTIONAL, size):
            yield tuple(name for group in chosen for name in group)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("full", mixtures(), ids=lambda full: "+".join(full) or "nothing")
def test_an_empty_list_says_what_padding_says(signatures, full, batch):
    for name in LISTS:
        inputs = smallest(signatures[name], full, batch)
        assert_equal(call(signatures[name], inputs), call(signatures[name], padded(inputs)))


@pytest.mark.slow  # a server
def test_every_signature_answers_its_smallest_request_over_grpc(server, signatures):
    stubs = Stubs(server.port)
    for name, function in signatures.items():
        inputs = smallest(function)
        response = stubs.predict(name, protos(function, inputs), timeout=1800)
        answer = {key: tf.make_ndarray(value) for key, value in response.outputs.items()}
        assert_equal(call(function, inputs), answer)
    ids = tf.make_ndarray(
        stubs.predict(
            "recommend", protos(signatures["recommend"], smallest(signatures["recommend"]))
        ).outputs[F.ITEM_ID]
    )
    assert (ids != b"").all()


@pytest.mark.slow  # a server
@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_every_signature_answers_its_smallest_request_over_rest(server, signatures, form):
    url = f"http://localhost:{server.rest_port}/v1/models/shelfwise:predict"
    for name, function in signatures.items():
        columns = {
            key: [[text.decode() if isinstance(text, bytes) else text for text in np.ravel(row).tolist()]
                  if values.ndim == 2 else row.decode() if isinstance(row, bytes) else row.item()
                  for row in values]
            for key, values in smallest(function).items()
        }  # fmt: skip
        row = {key: values[0] for key, values in columns.items()}
        body = {"signature_name": name, form: columns if form == "inputs" else [row]}
        status, answer = http_client.call(url, body, timeout=1800)
        assert status == 200, (name, answer)


def test_ages_without_items_are_still_refused_by_name(signatures):
    function = signatures["recommend"]
    inputs = smallest(function) | {F.HISTORY_AGE_DAYS: np.ones((1, 1), np.float32)}
    with pytest.raises(tf.errors.InvalidArgumentError, match="history_age_days must have the shape of"):
        call(function, inputs)


@pytest.mark.slow  # a server
def test_the_client_asks_with_exclusions_as_the_signatures_do(server, signatures):
    exclude = tiny_shop.ITEMS[5:40]
    events = [Event("101", 3.0, "purchase"), Event("103", 2.0, "view")]
    asked = UserState("", events), FULL[F.CANDIDATE_ITEM_ID]
    with Client(f"localhost:{server.port}", timeout=1800) as client:
        ranked = client.rank(*asked, exclude_item_id=exclude)
        explained = client.explain(*asked, exclude_item_id=exclude)
        plain = client.rank(*asked)
    without = {name: smallest(signatures[name], HISTORY) for name in ("rank", "explain")}
    inputs = {
        name: given | {F.EXCLUDE_ITEM_ID: np.asarray([exclude], object)} for name, given in without.items()
    }
    scores = call(signatures["rank"], inputs["rank"])[F.SCORE][0]
    log_odds = call(signatures["explain"], inputs["explain"])[F.LOG_ODDS][0]
    np.testing.assert_allclose([row.score for row in ranked], scores, atol=1e-5)
    np.testing.assert_allclose([row.log_odds for row in explained], log_odds, atol=1e-5)
    assert np.abs(np.asarray([row.score for row in plain]) - scores).max() > 1e-4
