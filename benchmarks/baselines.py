"""Classical recommenders: what a learned retriever has to beat.

Every baseline is a function of :class:`Interactions` that gives a dense score for each asked user
and each item of the catalogue. Run as a program it fits one of them in a process of its own, so
that time and memory are its own::

    python benchmarks/baselines.py --data interactions.npz --model ease --k 500 --output top.npy \
        --settings '{"regularisation": 500, "damping": "sqrt", "half_life": 60}'

Nothing of the product is imported: numpy, scipy and (iALS) `implicit` are enough.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.sparse as sp

_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class Interactions:
    """The past of all users, and who asks.

    Attributes:
      user, item: int64 [E], an entry an event, each user's in time order; item is a catalogue column.
      age: float32 [E], days between the event and the moment at which its user asks.
      users, items: U and M, how many there are.
      asked: int64 [A], the users to score.
    """

    user: np.ndarray
    item: np.ndarray
    age: np.ndarray
    users: int
    items: int
    asked: np.ndarray

    def matrix(self, weight: np.ndarray | None = None) -> sp.csr_matrix:
        """Weights of the events summed by user and item, float32 [U, M]; 1 an event by default."""
        weight = np.ones(len(self.user), np.float32) if weight is None else weight.astype(np.float32)
        return sp.csr_matrix((weight, (self.user, self.item)), shape=(self.users, self.items))

    def damped(self, damping: str, half_life: float | None) -> sp.csr_matrix:
        """Counts that halve every `half_life` days (None: never), then damped.

        Args:
          damping: "raw", "binary", "log" (log(1 + count)) or "sqrt".
          half_life: days.
        """
        decay = None if half_life is None else np.exp2(-self.age / half_life)
        matrix = self.matrix(decay)
        functions = {"raw": lambda x: x, "binary": np.ones_like, "log": np.log1p, "sqrt": np.sqrt}
        matrix.data = functions[damping](matrix.data)
        return matrix

    def places_from_the_end(self) -> np.ndarray:
        """int64 [E]: 0 for a user's last event, 1 for the one before, and so on."""
        ends = np.cumsum(np.bincount(self.user, minlength=self.users))
        return ends[self.user] - 1 - np.arange(len(self.user))


def _popularity(data: Interactions, count: str, chosen: np.ndarray) -> np.ndarray:
    matrix = data.matrix(chosen.astype(np.float32))
    if count == "users":
        matrix.data = (matrix.data > 0).astype(np.float32)
    return np.asarray(matrix.sum(0), np.float32).ravel()


def popularity(data: Interactions, count: str) -> np.ndarray:
    """Number of events ("lines") or distinct users ("users") of each item."""
    score = _popularity(data, count, np.ones(len(data.user)))
    return np.broadcast_to(score, (len(data.asked), data.items))


def popularity_recent(data: Interactions, count: str, days: float) -> np.ndarray:
    """Popularity among the events of the last days before the user asks."""
    score = _popularity(data, count, data.age <= days)
    return np.broadcast_to(score, (len(data.asked), data.items))


def personal_frequency(data: Interactions, half_life: float | None, popularity_weight: float) -> np.ndarray:
    """How often the user bought the item, decayed, plus recent popularity in [0, weight)."""
    popular = _popularity(data, "lines", data.age <= 28 if half_life else np.ones(len(data.user)))
    own = data.damped("raw", half_life)[data.asked].toarray()
    return own + popularity_weight * popular / (popular.max() + 1)


def item_knn(
    data: Interactions,
    neighbours: int,
    shrinkage: float,
    damping: str,
    half_life: float | None,
    keep_self: bool,
) -> np.ndarray:
    """Item-based nearest neighbours (Sarwar et al., WWW 2001): cosine with shrinkage.

    Args:
      data: interactions.
      neighbours: items kept for each item.
      shrinkage: added to the product of the norms.
      damping, half_life: see :meth:`Interactions.damped`.
      keep_self: an item is its own neighbour, which keeps what the user buys anyway.
    """
    matrix = data.damped(damping, half_life)
    columns = matrix.T.tocsr()
    norm = np.sqrt(np.asarray(columns.multiply(columns).sum(1))).ravel()
    kept = []
    for start in range(0, data.items, _BLOCK):
        similarity = (columns[start : start + _BLOCK] @ matrix).toarray()
        rows = np.arange(len(similarity))
        similarity /= norm[start : start + _BLOCK, None] * norm + shrinkage + 1e-9
        if not keep_self:
            similarity[rows, start + rows] = 0
        top = np.argpartition(-similarity, neighbours - 1, axis=1)[:, :neighbours]
        values = np.take_along_axis(similarity, top, 1)
        place = (np.repeat(rows, top.shape[1]), top.ravel())
        kept.append(sp.csr_matrix((values.ravel(), place), shape=similarity.shape))
    return (sp.vstack(kept).tocsr() @ matrix[data.asked].T).toarray().T.astype(np.float32)


def ease(
    data: Interactions,
    regularisation: float,
    damping: str = "binary",
    half_life: float | None = None,
    last: float | None = None,
) -> np.ndarray:
    """EASE (Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019), exactly.

    With P = (X'X + l I)^-1 the item-item weights are B = I - P / diag(P). The push-through
    identity turns the items x items inverse into one of users x users,
    P = (I - X' (X X' + l I)^-1 X) / l, so that only the users asked are ever multiplied by B:
    with fewer users than items that is minutes less and fits in memory.

    Args:
      data: interactions.
      regularisation: l.
      damping, half_life: of the matrix X that B is learned from.
      last: score the user's history with weights that halve every so many events back, instead
        of X itself.
    """
    matrix = data.damped(damping, half_life)
    dense = matrix.toarray()
    kernel = (matrix @ matrix.T).toarray().astype(np.float64)
    kernel[np.diag_indices(data.users)] += regularisation
    factor = scipy.linalg.cho_factor(kernel, overwrite_a=True)
    # the inverse in double precision, the wide product in single: half the time
    inverse = scipy.linalg.cho_solve(factor, np.eye(data.users)).astype(np.float32)
    inner = inverse @ dense  # (X X' + l I)^-1 X, [U, M]
    diagonal = (1 - np.einsum("um,um->m", dense, inner)) / regularisation
    query = matrix if last is None else data.matrix(np.exp2(-data.places_from_the_end() / last))
    query = query[data.asked]
    through = (query.toarray() - np.asarray(query @ matrix.T @ inner)) / regularisation  # Q P
    return query.toarray() - through / np.maximum(diagonal, 1e-9)


def ials(
    data: Interactions,
    factors: int,
    regularisation: float,
    alpha: float,
    damping: str,
    half_life: float | None = None,
    iterations: int = 15,
) -> np.ndarray:
    """iALS (Hu, Koren and Volinsky, ICDM 2008), by the library `implicit`."""
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    model = AlternatingLeastSquares(
        factors=factors,
        regularization=regularisation,
        alpha=alpha,
        iterations=iterations,
        random_state=1,
        calculate_training_loss=False,
    )
    with threadpool_limits(1, "blas"):  # the library has threads of its own
        model.fit(data.damped(damping, half_life), show_progress=False)
    return model.user_factors[data.asked] @ model.item_factors.T


MODELS: dict[str, Callable[..., np.ndarray]] = {
    model.__name__: model
    for model in (popularity, popularity_recent, personal_frequency, item_knn, ease, ials)
}


def top_k(score: np.ndarray, k: int, seen: sp.csr_matrix | None = None) -> np.ndarray:
    """The best columns of each row, best first, int64 [A, k]; ties by the lower column.

    Args:
      score: float32 [A, M].
      k: how many, at most M.
      seen: [A, M], non-zero = not to be recommended.

    Returns:
      Columns; -1 where a row has fewer than k that may be recommended.
    """
    k = min(k, score.shape[1])
    out = np.empty((len(score), k), np.int64)
    for start in range(0, len(score), _BLOCK):
        block = np.array(score[start : start + _BLOCK], np.float32)
        if seen is not None:
            block[seen[start : start + _BLOCK].nonzero()] = -np.inf
        last = np.partition(block, -k, axis=1)[:, -k, None]
        better, equal = block > last, block == last
        equal &= np.cumsum(equal, axis=1) <= k - better.sum(1, keepdims=True)
        best = np.nonzero(better | equal)[1].reshape(-1, k)
        value = np.take_along_axis(block, best, 1)
        order = np.argsort(-value, axis=1, kind="stable")
        best, value = np.take_along_axis(best, order, 1), np.take_along_axis(value, order, 1)
        out[start : start + _BLOCK] = np.where(np.isfinite(value), best, -1)
    return out


def peak_memory() -> int:
    """Largest resident size of this program so far, in bytes.

    Not `getrusage`: its figure begins with that of the process that started this one.
    """
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def save(path: str, data: Interactions) -> None:
    """Writes interactions as one .npz."""
    np.savez(path, **dataclasses.asdict(data))


def load(path: str) -> Interactions:
    """Reads what :func:`save` wrote."""
    with np.load(path) as arrays:
        fields = {name: arrays[name] for name in arrays.files}
    return Interactions(**fields | {"users": int(fields["users"]), "items": int(fields["items"])})


def main() -> None:
    """Fits one baseline, writes the lists and prints what it cost as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="interactions (.npz)")
    parser.add_argument("--model", required=True, choices=MODELS)
    parser.add_argument("--settings", default="{}", help="the model's arguments, JSON")
    parser.add_argument("--k", type=int, required=True, help="items a user")
    parser.add_argument("--novel", action="store_true", help="leave out what the user has already")
    parser.add_argument("--output", required=True, help="the lists (.npy, int64 [asked, k])")
    args = parser.parse_args()
    data = load(args.data)
    started, worked = time.perf_counter(), time.process_time()
    score = MODELS[args.model](data, **json.loads(args.settings))
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    np.save(args.output, top_k(score, args.k, data.matrix()[data.asked] if args.novel else None))
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak_memory()}))


if __name__ == "__main__":
    main()
