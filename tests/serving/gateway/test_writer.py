"""The one writer: what waits together is committed together, and one bad request fails alone."""

from __future__ import annotations

import asyncio
import threading

import pytest

from serving.gateway.errors import Refused
from serving.gateway.metrics import Metrics
from serving.gateway.writer import Writer
from serving.store import EventStore, Shown, ShownList, StoredEvent


def event(number, kind="view"):
    return StoredEvent(f"event-{number:04d}", "u1", str(number), kind, 1.0, 1.0)


def shown(name, version=1):
    items = [Shown("1", 0, 1.0, "s"), Shown("2", 1, 1.0, "s")]
    return ShownList(name, "r", "u1", "home", "", "", version, "", False, 1.0, "", items)


class Held(EventStore):
    """A store whose first transaction waits until the test lets it go."""

    def __init__(self, url):
        super().__init__(url)
        self.go, self.transactions = threading.Event(), []

    def write(self, events, lists):
        self.transactions.append(len(events) + len(lists))
        assert self.go.wait(60)
        return super().write(events, lists)


@pytest.fixture
def store(tmp_path):
    opened = Held(f"sqlite:///{tmp_path / 'store.sqlite'}")
    yield opened
    opened.close()


def run(store, body, queued=1000):
    async def whole():
        writer = Writer(store, queued, Metrics())
        writer.start()
        result = await body(writer)
        await writer.stop()
        return result

    return asyncio.run(whole())


async def outcomes(*waiting):
    return await asyncio.gather(*waiting, return_exceptions=True)


def test_what_comes_while_a_transaction_runs_is_one_more(store):
    async def body(writer):
        first = asyncio.create_task(writer.append([event(0)]))
        while not store.transactions:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(writer.append([event(n // 2), event(100 + n)])) for n in range(6)]
        writer.log(shown("list-1"))
        await asyncio.sleep(0)
        assert not first.done()
        assert store.recent("u1", 99, 9.0) == []  # nobody is told before it is there
        store.go.set()
        return [await first, *(await outcomes(*rest))]

    found = run(store, body)
    assert store.transactions == [1, 13]
    # an id counts for the first that had it
    assert found == [(1, 0), (1, 1), (1, 1), (2, 0), (1, 1), (2, 0), (1, 1)]
    assert len(store.recent("u1", 99, 9.0)) == 9
    assert [row["list_id"] for row in store.export("u1")["lists"]] == ["list-1"]


def test_a_request_that_the_database_refuses_fails_alone(store):
    async def body(writer):
        first = asyncio.create_task(writer.append([event(0)]))
        while not store.transactions:
            await asyncio.sleep(0.001)
        rest = [writer.append([event(1)]), writer.append([event(2, kind=None)]), writer.append([event(3)])]
        tasks = [asyncio.create_task(each) for each in rest]
        writer.log(shown("list-1", version=None))
        await asyncio.sleep(0)
        store.go.set()
        return [await first, *(await outcomes(*tasks))]

    zero, one, bad, three = run(store, body)
    assert zero == one == three == (1, 0)
    assert isinstance(bad, Refused)
    assert bad.status == 503
    assert [each.item_id for each in store.recent("u1", 9, 9.0)] == ["0", "1", "3"]


def test_what_does_not_fit_into_the_queue_is_refused_at_once(store):
    async def body(writer):
        first = asyncio.create_task(writer.append([event(n) for n in range(4)]))
        await asyncio.sleep(0)
        [refused] = await outcomes(writer.append([event(9), event(10)]))
        writer.log(shown("list-1"))  # three rows
        store.go.set()
        return await first, refused, await writer.append([event(11)])

    first, refused, after = run(store, body, queued=5)
    assert (first, after) == ((4, 0), (1, 0))
    assert isinstance(refused, Refused)
    assert refused.headers == {"Retry-After": "1"}
    assert store.export("u1")["lists"] == []
