"""SIGKILL of the gateway under load: what was acknowledged is there, once."""

from __future__ import annotations

import asyncio

import pyarrow.parquet as pq
import pytest

from benchmarks.gateway import Gateway, kill_under_load, stored
from tests.serving.gateway.conftest import card_table


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_no_acknowledged_event_is_lost_or_doubled(database, tmp_path, request):
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    if database == "postgresql":
        url = request.getfixturevalue("postgres").database()
    pq.write_table(card_table(), tmp_path / "items.parquet")
    gateway = Gateway(tmp_path, url, "--catalogue", str(tmp_path / "items.parquet"))
    try:
        acknowledged, answers = asyncio.run(kill_under_load(gateway, kills=2))
    finally:
        gateway.stop()
    found = stored(url)
    assert len(acknowledged) == len(set(acknowledged)) >= 2 * 60
    assert set(acknowledged) <= set(found)
    assert set(found.values()) == {1}
    assert all(answers)  # no model runs: each list that was answered says so
