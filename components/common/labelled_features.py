"""Features of CandidateSampler's lists, computed with the serving graph: what the ranker learns from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from components.common.candidate_lists import AS_OF, padded, request_inputs, tensor
from models.data import example_io
from models.data.stored_rows import StoredRows
from models.funnel.retriever import Retriever
from schema import names as F
from schema.errors import DataError

_BATCH = 32


def load_features(
    folder: str, retriever_at: Callable[[int], Retriever], contexts: tuple[str, ...]
) -> tuple[dict[str, Any], Retriever]:
    """Reads labelled lists and computes their features with the serving graph.

    Args:
      folder: split folder of CandidateSampler's examples.
      retriever_at: gives the retriever of an `as_of`.
      contexts: context names.

    Returns:
      (`features` float32 [Q, N, F] in a file, `codes` name -> int32 [Q, N], `weight` and the labels
      `schema.names.LABELS` float32 [Q, N], `user_id` object [Q]; a retriever).

    Raises:
      DataError: there is no list.
    """
    table = example_io.read_table(folder)
    if not table.num_rows:
        raise DataError(f"{folder}: no labelled list; nobody bought a candidate in the label window")
    moments = example_io.first(table, AS_OF, 0).astype(np.int64)
    # the features would be most of the memory, and go into a file
    out: dict[str, Any] = {}
    for as_of in np.unique(moments):
        retriever = retriever_at(int(as_of))

        def describe(
            inputs: dict[str, tf.Tensor],
            exclude: tf.Tensor,
            candidates: tf.Tensor,
            source: Retriever = retriever,
        ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
            _, features, codes = source.describe(
                inputs, source.not_excluded(exclude), source.positions(candidates)
            )
            return features, codes

        graph = tf.function(describe, reduce_retracing=True, autograph=False)
        chosen = np.flatnonzero(moments == as_of)
        for start in range(0, len(chosen), _BATCH):
            place = chosen[start : start + _BATCH]
            rows = table.take(pa.array(place))
            inputs = request_inputs(rows, contexts)
            features, codes = graph(
                {name: tensor(value) for name, value in inputs.items()},
                tensor(padded(rows, F.EXCLUDE_ITEM_ID, "")),
                tensor(padded(rows, F.CANDIDATE_ITEM_ID, "")),
            )
            if not out:
                out["features"] = StoredRows((len(moments), *features.shape[1:]), np.float32)
                finite = np.ones(features.shape[-1], bool)
                out["codes"] = {
                    name: np.empty((len(moments), *code.shape[1:]), np.int32) for name, code in codes.items()
                }
            out["features"][place] = features.numpy()
            finite &= np.isfinite(features).all((0, 1))
            for name, code in codes.items():
                out["codes"][name][place] = code
    out |= {name: padded(table, name, 0.0) for name in F.LABELS}
    out |= {
        "weight": padded(table, F.CANDIDATE_WEIGHT, 0.0),
        F.USER_ID: example_io.first(table, F.USER_ID, ""),
    }
    if not finite.all():
        names = [retriever.pair_features.names[index] for index in np.flatnonzero(~finite)]
        raise DataError(
            f"{folder}: features {names} are not finite; "
            "look for wrong prices, ages or timestamps in the events"
        )
    return out, retriever
