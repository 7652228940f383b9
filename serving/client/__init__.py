"""Typed client of a Shelfwise model server (ours or TensorFlow Serving), and its command line.

Example::

    with Client("localhost:8500") as client:
        for item in client.recommend(UserState("1", events=[Event("1082185", days_ago=3)]), k=10):
            print(item.rank, item.item_text, item.reason)
        found = client.search("milk", UserState("1", events=[Event("1082185", days_ago=3)]))
        print(found.total, found.notice, [item.item_text for item in found.items])

    async with AsyncClient("localhost:8500") as client:
        items = await client.recommend("1", k=10)  # a user id alone: no events, no context

    python -m serving.client recommend --user 1 --k 10

Every error is a `schema.errors.UserError` of one line: `RequestError` for what is asked,
`ServerError` for what the server said, `ServerUnavailable` when none answered.

In the room: `types` (results and errors), `wire` (channel and messages), `outputs` (answers as results),
`calls` (what is asked), `clients` (how to wait), `command` (the command line). It may import `schema`
and nothing else of ours, so that it can be shipped alone. TensorFlow is only imported when the first
call is made (the protocol's messages need it), so that the command line's help and its checks are quick.
"""

from schema.errors import RequestError
from schema.events import Event, UserState
from serving.client.clients import AsyncClient, Client
from serving.client.types import (
    Explanation,
    FoundItem,
    Metadata,
    RankedItem,
    Recommendation,
    SearchResult,
    ServerError,
    ServerUnavailable,
    SignatureInfo,
    Suggestion,
    TensorInfo,
    VersionStatus,
)

__all__ = [
    "AsyncClient",
    "Client",
    "Event",
    "Explanation",
    "FoundItem",
    "Metadata",
    "RankedItem",
    "Recommendation",
    "RequestError",
    "SearchResult",
    "ServerError",
    "ServerUnavailable",
    "SignatureInfo",
    "Suggestion",
    "TensorInfo",
    "UserState",
    "VersionStatus",
]
