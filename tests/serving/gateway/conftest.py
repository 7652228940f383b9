"""A gateway in this process, in front of a model server that is a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from fastapi import FastAPI

from schema.config import Gateway
from serving.client import AsyncClient
from serving.gateway.app import create_app
from serving.gateway.catalogue import Catalogue, table
from serving.store import EventStore
from tests.serving import overlap_model
from tests.serving.process import Server

LATE = {"recommend_ms": 20_000, "search_ms": 20_000, "suggest_ms": 20_000, "explain_ms": 20_000}


def card_table() -> pa.Table:
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
    return table(rows)


def app_of(folder: Path, address: str, more: dict[str, Any] | None = None, **settings: Any) -> FastAPI:
    """An app with a store in `folder`, in front of the model server at `address`."""
    section = Gateway.model_validate({"timeouts": LATE, **settings})
    given = {
        "store": EventStore(f"sqlite:///{folder / 'store.sqlite'}"),
        "model": AsyncClient(address, timeout=20, max_attempts=1),
        "catalogue": Catalogue(card_table()),
    }
    return create_app(section, **{**given, **(more or {})})


@pytest.fixture
def gateway(server: Server, tmp_path: Path) -> Callable[..., Any]:
    """async with gateway(**settings) as (client, app): an app with a store of its own.

    `model` asks another address; further arguments of `create_app` by `more`.
    """

    @contextlib.asynccontextmanager
    async def make(
        *, model: str | None = None, more: dict[str, Any] | None = None, **settings: Any
    ) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
        app = app_of(tmp_path, model or server.address, more, **settings)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                yield client, app
        app.state.services.store.close()

    return make
