"""SIGKILL of the gateway under load: what was acknowledged is there, once."""

from __future__ import annotations

import asyncio

import pyarrow.parquet as pq
import pytest

from benchmarks.gateway import Gateway, kill_under_load, stored
from tests.serving.gateway.conftest import card_table


@pytest.mark.slow
@pytest.mark.parametrize(("database", "kills"), [("sqlite", 2), ("postgresql", 1)])
def test_no_acknowledged_event_is_lost_or_doubled(database, kills, tmp_path, request):
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    if database == "postgresql":
        url = request.getfixturevalue("postgres").database()
    pq.write_table(card_table(), tmp_path / "items.parquet")
    gateway = Gateway(tmp_path, url, "--catalogue", str(tmp_path / "items.parquet"), "--no-wait_for_model")
    try:
        acknowledged, answers = asyncio.run(kill_under_load(gateway, kills=kills))
    finally:
        gateway.stop()
    found = stored(url)
    assert len(acknowledged) == len(set(acknowledged)) >= kills * 60
    assert set(acknowledged) <= set(found)
    assert set(found.values()) == {1}
    assert all(answers)  # no model runs: each list that was answered says so
