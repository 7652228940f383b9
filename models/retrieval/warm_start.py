"""Trained variables carried from one model to the next, embedding rows by what they stand for.

Vocabularies change between runs: tomorrow an index stands for another item, user or shop. So the rows of
an embedding table are taken over by term, whatever their index; new terms keep their initial values.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from models.data import arrays
from schema.errors import DataError

_VALUE, _TERMS, _UNTIL = "value/", "terms/", "learned_until"


@dataclasses.dataclass(frozen=True)
class Weights:
    """Variables of a trained model.

    Attributes:
      values: name -> float32 array.
      terms: name -> str [rows], of each embedding table what its rows stand for; row 0 is "", the
        unknown. A variable without terms is taken over as it is.
      learned_until: unix seconds; the model learned from events before it only.
    """

    values: Mapping[str, np.ndarray]
    terms: Mapping[str, np.ndarray]
    learned_until: int

    @classmethod
    def of(
        cls, variables: Mapping[str, tf.Variable], terms: Mapping[str, Sequence[str]], until: int
    ) -> Weights:
        """The present values of variables.

        Args:
          variables: by name.
          terms: of each embedding table; those beyond its rows are cut off.
          until: `learned_until`.
        """
        values = {name: variable.numpy() for name, variable in variables.items()}
        named = {name: np.asarray(words, str)[: len(values[name])] for name, words in terms.items()}
        return cls(values, named, int(until))

    def save(self, path: str) -> None:
        """Writes one .npz file."""
        fields = {_VALUE + name: value for name, value in self.values.items()}
        fields |= {_TERMS + name: words for name, words in self.terms.items()}
        arrays.save(path, fields | {_UNTIL: np.asarray(self.learned_until, np.int64)})

    @classmethod
    def load(cls, path: str) -> Weights:
        """Reads what :meth:`save` wrote.

        Raises:
          DataError: the file is damaged.
        """
        try:
            fields = arrays.load(path)
            out = cls(
                *(
                    {
                        name.removeprefix(kind): field
                        for name, field in fields.items()
                        if name.startswith(kind)
                    }
                    for kind in (_VALUE, _TERMS)
                ),
                int(fields[_UNTIL]),
            )
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
            raise DataError(
                f"{path}: the weights of the last blessed model cannot be read ({error}); restore the file, "
                "or set retrieval.warm_start to false to start without them"
            ) from error
        unusable = [name for name, value in out.values.items() if not np.isfinite(value).all()]
        if unusable:
            raise DataError(
                f"{path}: {unusable[0]} of the last blessed model holds values that are not finite; set "
                "retrieval.warm_start to false to start without them"
            )
        return out


def learned_until(path: str) -> int:
    """Unix seconds: the model whose weights a file holds learned from events before it only."""
    with tf.io.gfile.GFile(path, "rb") as file, np.load(file) as fields:
        return int(fields[_UNTIL])


def difference(previous: Weights, current: Weights) -> str | None:
    """The first difference of two models' architectures, in words; None if there is none.

    Tables with terms may have different numbers of rows.
    """

    def shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
        return {
            name: value.shape[1:] if name in weights.terms else value.shape
            for name, value in weights.values.items()
        }

    then, now = shapes(previous), shapes(current)
    for name in sorted({*then, *now}):
        if name not in then or name not in now:
            return f"{name} is {'new' if name in now else 'gone'}"
        if then[name] != now[name] or (name in previous.terms) != (name in current.terms):
            return f"{name} was {_by(then[name])}, is {_by(now[name])}"
    return None


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"


def take_over(
    previous: Weights, current: Weights, variables: Mapping[str, tf.Variable]
) -> dict[str, tuple[int, int]]:
    """Assigns a previous model's values to the variables of a new one of the same architecture.

    Args:
      previous: the model to start from.
      current: the new model at its initial values.
      variables: its variables.

    Returns:
      Name of each table with terms -> (rows taken over, rows), without row 0, which always is.
    """
    counts = {}
    for name, variable in variables.items():
        value = previous.values[name]
        if name in current.terms:
            row = pd.Index(previous.terms[name]).get_indexer(current.terms[name])
            known = row >= 0
            value = np.where(known[:, None], value[row], current.values[name])
            counts[name] = (int(known[1:].sum()), len(known) - 1)
        variable.assign(value)
    return counts
