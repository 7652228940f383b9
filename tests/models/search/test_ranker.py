import numpy as np
import tensorflow as tf

from models.search.ranker import SearchRanker

NAMES = ("lexical", "fused", "semantic")


def data(personal: int = 0):
    rng = np.random.default_rng(3)
    parts = rng.normal(2, 3, (4, 6, len(NAMES))), rng.normal(0, 1, (4, 6, personal))
    return [tf.constant(part, tf.float32) for part in parts]


def test_untrained_it_ranks_by_the_fusion_of_the_sources():
    features, _ = data()
    ranker = SearchRanker(NAMES)
    ranker.adapt(features.numpy().reshape(-1, 3))
    score = ranker.score(features).numpy()
    np.testing.assert_array_equal(np.argsort(score, 1), np.argsort(features.numpy()[..., 1], 1))


def test_exact_names_come_first_whatever_was_learned():
    features, _ = data()
    ranker = SearchRanker(NAMES, hidden=4)
    for variable in ranker.trainable_variables:
        variable.assign(tf.random.stateless_normal(variable.shape, [1, 2]) * 1e4)
    exact = np.zeros((4, 6), bool)
    exact[:, 4] = True
    valid = np.ones((4, 6), bool)
    valid[:, 5] = False
    score = ranker.score(features)
    score = tf.concat([score[:, :4], tf.fill([4, 1], -1e30), tf.fill([4, 1], 1e30)], 1)  # the worst for it
    order = ranker.order(score, tf.constant(exact), tf.constant(valid)).numpy()
    assert (order.argmax(1) == 4).all()
    assert (order[:, 5] == -1).all()
    assert (order[:, :4] > 0).all()
    assert (order[:, :4] < 1).all()
    huge = ranker.order(
        tf.constant([[1e30, 3e38, -3e38]]), tf.constant([[False] * 3]), tf.constant([[True] * 3])
    )
    assert (huge.numpy() < 1).all()
    assert (huge.numpy() > 0).all()


def test_it_learns_what_features_and_user_say():
    features, personal = data(2)
    ranker = SearchRanker(NAMES, ("own", "probability"))
    rows = features.numpy().reshape(-1, 3), personal.numpy().reshape(-1, 2)
    ranker.adapt(*rows)
    wanted = np.argmax(personal.numpy()[..., 1] * features.numpy()[..., 0], 1)
    optimizer = tf.keras.optimizers.Adam(0.1)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            score = ranker.score(features, personal)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, score))
        variables = ranker.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    losses = [float(step()) for _ in range(80)]
    assert losses[-1] < 0.3 * losses[0]
    assert len(ranker.trainable_variables) == 4  # not mean and deviation


def test_save_and_load(tmp_path):
    features, personal = data(2)
    for hidden in (0, 5):
        ranker = SearchRanker(NAMES, ("own", "probability"), hidden)
        for variable in ranker.variables:
            variable.assign(tf.random.stateless_uniform(variable.shape, [1, hidden]) + 0.1)
        ranker.save(str(tmp_path / "ranker.npz"))
        loaded = SearchRanker.load(str(tmp_path / "ranker.npz"))
        assert (loaded.features, loaded.personal) == (NAMES, ("own", "probability"))
        np.testing.assert_array_equal(ranker.score(features, personal), loaded.score(features, personal))
    plain = SearchRanker(NAMES, hidden=0)
    plain.save(str(tmp_path / "plain.npz"))
    assert SearchRanker.load(str(tmp_path / "plain.npz")).personal == ()


def test_features_that_are_not_finite_do_not_spread():
    features = tf.constant([[[np.nan, 1.0, np.inf], [0.0, 1.0, 0.0]]])
    assert np.isfinite(SearchRanker(NAMES).score(features).numpy()).all()
