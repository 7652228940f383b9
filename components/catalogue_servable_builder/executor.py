"""Joins search and text encoder into the SavedModel of a shop without events."""

from __future__ import annotations

from typing import Any

import numpy as np

from components.catalogue_servable_builder.settings import Settings
from components.common import artifacts, cards, servables
from models.data.item_table import ItemTable
from models.funnel.catalogue import CatalogueServable
from models.funnel.search import SearchParts

_WARMUP_REQUESTS = 4


def run(
    items: ItemTable, text_encoder: Any, search: SearchParts, settings: Settings, model_folder: str
) -> str:
    """Writes the servable, its warm-up requests and the items' cards.

    Args:
      items: the catalogue.
      text_encoder: its SavedModel, loaded.
      search: what is searched with.
      settings: what the component obeys.
      model_folder: Model artifact; gets `Format-Serving/` with `assets.extra/`.

    Returns:
      A line for a person.
    """
    servable = CatalogueServable(items, text_encoder.encode, text_encoder, search, settings)
    signatures = servable.signatures()
    folder = artifacts.model_folder(model_folder)
    servables.export(servable, signatures, folder)
    # items with a text, spread over the catalogue: what a request searches for is found
    rows = 1 + np.flatnonzero(items.text[1:] != "")
    rows = rows if len(rows) else np.arange(1, len(items))
    chosen = rows[np.linspace(0, len(rows) - 1, min(_WARMUP_REQUESTS, len(rows))).astype(int)]
    requests = []
    for row in chosen:
        values = servables.nobody() | servables.neutral_inputs(items, np.asarray([row]))
        requests += servables.predict_requests(signatures, values)
    servables.write_warmup(requests, folder)
    titles = cards.title_fields(settings.items, settings.search)
    cards.write(cards.of_search(search.catalogue, titles), folder)
    return (
        f"{len(signatures)} signatures, {len(items) - 1:,} items, {servables.mebibytes(folder):,.0f} MiB, "
        f"{len(requests)} warm-up requests"
    )
