"""The ops that a request executes are counted as they run."""

import tensorflow as tf

from benchmarks import latency


def test_an_op_in_a_loop_counts_as_often_as_the_loop_turns(tmp_path):
    def recommend(k):
        return {"score": tf.while_loop(lambda at, _: at < k, lambda at, sum: (at + 1, sum * 3), (0, 1))[1]}

    module = tf.Module()
    function = tf.function(recommend, autograph=False, input_signature=[tf.TensorSpec([], tf.int32, "k")])
    tf.saved_model.save(module, str(tmp_path), signatures={"recommend": function.get_concrete_function()})
    found = {turns: latency.executed_ops(str(tmp_path), {"k": tf.constant(turns)}) for turns in (2, 7)}
    assert {turns: ops["Mul"] for turns, ops in found.items()} == {2: 2, 7: 7}
    assert not found[2].keys() & {"_Arg", "StatefulPartitionedCall", ""}
