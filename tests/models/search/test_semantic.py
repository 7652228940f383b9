import numpy as np
import tensorflow as tf

from models.search.semantic import TextVectors, directions
from schema.config import Search


def vectors(count: int = 400, dim: int = 48, rank: int = 12) -> np.ndarray:
    """Unit vectors near a space of few dimensions."""
    rng = np.random.default_rng(7)
    found = rng.normal(size=(count, rank)) @ rng.normal(size=(rank, dim)) + 0.05 * rng.normal(
        size=(count, dim)
    )
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_few_dimensions_find_what_all_compare():
    table = vectors()
    queries = vectors(430)[400:]
    allowed = np.random.default_rng(1).random((30, 400)) < 0.7
    exact = np.where(allowed, queries @ table.T, -9)
    order = np.argsort(-exact, 1)[:, :10]
    for few, least in ((0, 1.0), (16, 0.99)):
        made = TextVectors(table, Search(semantic_dim=few))
        score, position = made.search(tf.constant(queries), 10, tf.constant(allowed))
        found = np.mean(
            [len(set(row) & set(true)) / 10 for row, true in zip(position.numpy(), order, strict=True)]
        )
        assert found >= least
        np.testing.assert_allclose(score, np.take_along_axis(exact, position.numpy(), 1), atol=1e-5)
        assert (np.diff(score, axis=1) <= 0).all()


def test_where_few_are_allowed_the_rest_is_empty():
    table = vectors(30)
    for few in (0, 8):
        made = TextVectors(table, Search(semantic_dim=few))
        allowed = np.zeros((1, 30), bool)
        allowed[0, [3, 4]] = True
        _, position = made.search(tf.constant(table[:1]), 5, tf.constant(allowed))
        assert set(position.numpy()[0, :2]) == {3, 4}
        assert (position.numpy()[0, 2:] == 30).all()


def test_directions_are_orthonormal():
    found = directions(vectors(), 10)
    np.testing.assert_allclose(found.T @ found, np.eye(10), atol=1e-5)
