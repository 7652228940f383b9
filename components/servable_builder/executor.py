"""Joins sources, ranker and text encoder into the one SavedModel that is served."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from components.common import artifacts, cards, servables
from components.servable_builder.settings import Settings
from models.data import arrays
from models.data.event_log import EventLog
from models.data.item_table import ItemTable
from models.funnel.retriever import Retriever
from models.funnel.search import SearchParts
from models.funnel.servable import Funnel
from schema import names as F

_WARMUP_USERS = 4


def run(
    retriever: Retriever,
    items: ItemTable,
    ranking_folder: str,
    text_encoder_folder: str,
    log: EventLog,
    as_of: int,
    settings: Settings,
    model_folder: str,
    histories_folder: str,
    search: SearchParts | None = None,
) -> str:
    """Writes the servable, its warm-up requests, the items' cards and the users' request states.

    Args:
      retriever: as of `as_of`.
      items: the catalogue.
      ranking_folder, text_encoder_folder: SavedModels.
      log: the events before `as_of`.
      as_of: unix seconds.
      settings: what the component obeys.
      model_folder: Model artifact; gets `Format-Serving/` with `assets.extra/`.
      histories_folder: RequestHistories artifact; gets histories.parquet.
      search: what SearchTrainer learned; without it, the servable has no `search` and no `suggest`.

    Returns:
      A line for a person.
    """
    ranker = tf.saved_model.load(ranking_folder)
    encoder = tf.saved_model.load(text_encoder_folder)
    encode: Callable[[tf.Tensor], tf.Tensor] = encoder.encode
    funnel = Funnel(retriever, ranker, encode, encoder, items, settings, search)
    signatures = funnel.signatures()
    folder = artifacts.model_folder(model_folder)
    servables.export(funnel, signatures, folder)
    users = write_histories(
        log, as_of, settings.candidates.history_length, os.path.join(histories_folder, artifacts.HISTORIES)
    )
    requests = warmup_requests(signatures, log, items, retriever, as_of, settings.candidates.history_length)
    servables.write_warmup(requests, folder)
    cards.write(_cards(items, retriever, settings, search), folder)
    size = servables.mebibytes(folder)
    return (
        f"{len(signatures)} signatures, {retriever.sources.count:,} candidates, {size:,.0f} MiB, "
        f"{len(requests)} warm-up requests, {users:,} request histories"
    )


def _cards(
    items: ItemTable, retriever: Retriever, settings: Settings, search: SearchParts | None
) -> pa.Table:
    if search is not None:
        return cards.of_search(search.catalogue, cards.title_fields(settings.items, settings.search))
    popularity = np.zeros(len(items))
    popularity[retriever.snapshot.candidate_row] = retriever.snapshot.popularity
    return cards.of_items(items, settings.items, popularity)


def write_histories(log: EventLog, as_of: int, length: int, path: str) -> int:
    """Writes every user's request state at `as_of` (see `components.common.artifact_types.RequestHistories`).

    Returns:
      The number of users.
    """
    users = np.unique(log.before(as_of).user)
    state = log.histories(users, as_of, length)
    size = (state[F.HISTORY_ITEM_ID] != "").sum(1)
    real = np.arange(state[F.HISTORY_ITEM_ID].shape[1]) < size[:, None]
    offsets = pa.array(np.concatenate([[0], np.cumsum(size)]), pa.int32())
    columns = {}
    for name, values in state.items():
        columns[name] = (
            pa.array(values.tolist(), pa.string())
            if values.ndim == 1
            else pa.ListArray.from_arrays(offsets, pa.array(values[real].tolist()))
        )
    arrays.save_parquet(path, pa.table(columns))
    return len(users)


def warmup_requests(
    signatures: dict[str, tf.types.experimental.ConcreteFunction],
    log: EventLog,
    items: ItemTable,
    retriever: Retriever,
    as_of: int,
    length: int,
) -> list[predict_pb2.PredictRequest]:
    """Real requests, a few for each signature, that a server answers before it takes traffic."""
    users = np.unique(log.before(as_of).user)
    users = users[np.linspace(0, len(users) - 1, min(_WARMUP_USERS, len(users))).astype(int)]
    candidates = retriever.sources.candidate_row.numpy()[:-1]
    requests = []
    for number, user in enumerate(users):
        state = log.histories(np.asarray([user]), as_of, length)
        known = state | {F.CONTEXT_TIMESTAMP: np.asarray([as_of], np.int64)}
        known |= servables.neutral_inputs(items, np.roll(candidates, -number))
        example = tf.train.Example()
        for name in (
            F.USER_ID,
            F.HISTORY_ITEM_ID,
            F.HISTORY_EVENT_TYPE,
            F.EXCLUDE_ITEM_ID,
            F.CANDIDATE_ITEM_ID,
            *map(F.context, log.contexts),
        ):
            example.features.feature[name].bytes_list.value.extend(
                value.encode() for value in np.ravel(known[name])
            )
        example.features.feature[F.HISTORY_AGE_DAYS].float_list.value.extend(
            state[F.HISTORY_AGE_DAYS].ravel()
        )
        known["examples"] = np.asarray([example.SerializeToString()], object)
        requests += servables.predict_requests(signatures, known)
    return requests
