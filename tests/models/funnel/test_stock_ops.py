"""The servable runs on stock TensorFlow Serving: no op that its binary does not register."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from components.common import artifacts
from models.retrieval.index.kinds import KINDS
from tests.models.retrieval import test_index
from tests.shops import tiny_shop

pytestmark = pytest.mark.slow  # another process imports TensorFlow

# Ops of TensorFlow Text that the stock model server links in addition to TensorFlow's own: in
# tensorflow/serving, tensorflow_serving/model_servers/BUILD lists
# "@org_tensorflow_text//tensorflow_text:ops_lib" in SUPPORTED_TENSORFLOW_OPS. FastBertTokenizer is
# its fast_bert_normalizer and fast_wordpiece_tokenizer; a search reads its words with normalize_ops.
TEXT_OPS = {"FastBertNormalize", "FastWordpieceTokenizeWithOffsets", "CaseFoldUTF8", "NormalizeUTF8"}
PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}

LIST_OPS = """
import tensorflow
from tensorflow.python.framework import op_def_registry
from tensorflow.python.client import pywrap_tf_session
from tensorflow.core.framework import op_def_pb2
ops = op_def_pb2.OpList.FromString(bytes(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())))
print("\\n".join(op.name for op in ops.op))
"""


@pytest.fixture(scope="module")
def stock():
    """Names of the ops that TensorFlow alone registers (in a process without TensorFlow Text)."""
    done = subprocess.run([sys.executable, "-c", LIST_OPS], capture_output=True, text=True, check=True)
    names = set(done.stdout.split())
    assert {"MatMul", "TopKV2", "LookupTableFindV2"} <= names
    assert not names & TEXT_OPS
    return names


@pytest.fixture(scope="module")
def used():
    """Names of all ops of the servable."""
    return ops_of(artifacts.model_folder(tiny_shop.built().servable))


def ops_of(folder):
    """Names of all ops of an exported graph and its function library."""
    model = saved_model_pb2.SavedModel()
    with tf.io.gfile.GFile(f"{folder}/saved_model.pb", "rb") as file:
        model.ParseFromString(file.read())
    assert len(model.meta_graphs) == 1
    graph = model.meta_graphs[0].graph_def
    functions = {function.signature.name for function in graph.library.function}
    nodes = {node.op for node in graph.node}
    for function in graph.library.function:
        nodes |= {node.op for node in function.node_def}
    return nodes - functions


def test_every_op_is_registered_by_stock_tensorflow_serving(used, stock):
    assert len(used) > 60
    assert used - stock - TEXT_OPS == set()


def test_the_list_of_text_ops_is_not_longer_than_needed(used, stock):
    assert used - stock == TEXT_OPS


def test_no_python_runs_in_the_graph(used):
    assert not used & PYTHON_OPS
    assert not [name for name in used if "py_func" in name.lower() or "pyfunc" in name.lower()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_index_is_made_of_stock_ops(kind, stock, tmp_path):
    """The servable has one of them; each also searches as before after export."""
    which, (_, queries) = test_index.built(kind), test_index.clustered()
    allowed = np.random.default_rng(1).random((len(queries), which.count)) < 0.2
    module = tf.Module()
    module.index = which
    signature = [tf.TensorSpec([None, queries.shape[1]]), tf.TensorSpec([None, None], tf.bool)]
    module.search = tf.function(lambda query, free: which.search(query, 10, free), signature, autograph=False)
    tf.saved_model.save(module, str(tmp_path))
    assert ops_of(str(tmp_path)) - stock == set()
    loaded = tf.saved_model.load(str(tmp_path))
    answers = test_index.search(kind, 10, allowed)
    for got, expected in zip(loaded.search(queries, allowed), answers, strict=True):
        np.testing.assert_array_equal(got, expected)
