"""A gateway in this process, in front of a model server that is a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from schema.config import Gateway
from serving.client import AsyncClient
from serving.gateway.app import create_app
from serving.gateway.catalogue import Catalogue, table
from serving.store import EventStore
from tests.serving import overlap_model
from tests.serving.process import Server

LATE = {"recommend_ms": 20_000, "search_ms": 20_000, "suggest_ms": 20_000, "explain_ms": 20_000}


def cards() -> Catalogue:
    """The overlap model's items; later ones are more popular, as to the model."""
    rows = [
        {
            "item_id": item,
            "title": title,
            "category": category,
            "brand": "acme",
            "price": None if price < 0 else price,
            "popularity": float(place),
        }
        for place, (item, title, category, price) in enumerate(
            zip(
                overlap_model.ITEMS,
                overlap_model.TEXTS,
                overlap_model.CATEGORIES,
                overlap_model.PRICES,
                strict=True,
            )
        )
    ]
    return Catalogue(table(rows))


@pytest.fixture
def gateway(server: Server, tmp_path: Path) -> Callable[..., Any]:
    """async with gateway(**settings) as (client, app): an app with a store of its own.

    `model` asks another address; further arguments of `create_app` by `more`.
    """

    @contextlib.asynccontextmanager
    async def make(
        *, model: str | None = None, more: dict[str, Any] | None = None, **settings: Any
    ) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
        section = Gateway.model_validate({"timeouts": LATE, **settings})
        store = EventStore(f"sqlite:///{tmp_path / 'store.sqlite'}")
        given = {
            "store": store,
            "model": AsyncClient(model or server.address, timeout=20, max_attempts=1),
            "catalogue": cards(),
        }
        app = create_app(section, **{**given, **(more or {})})
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                yield client, app
        store.close()

    return make
