"""Takes events in."""

from __future__ import annotations

from collections.abc import Sequence

from schema import names as F
from serving.gateway.errors import Refused
from serving.gateway.events.schemas import EventIn
from serving.gateway.services import Services
from serving.store import Appended, StoredEvent


async def take(services: Services, events: Sequence[EventIn]) -> Appended:
    """Keeps events; returns when they are committed.

    Raises:
      Refused: 413 for too many, 422 for one that is too old, 503 if they cannot be written now.
    """
    settings = services.settings
    if len(events) > settings.limits.batch_events:
        raise Refused(413, f"more than {settings.limits.batch_events} events; send several requests")
    now = services.clock.now()
    oldest = now - settings.keep_days * F.SECONDS_PER_DAY
    for place, event in enumerate(events):
        if event.occurred_at is not None and event.occurred_at < oldest:
            raise Refused(
                422, f"events.{place}.occurred_at: is more than {settings.keep_days:g} days ago; leave it out"
            )
    return await services.writer.append([_stored(services, event, now) for event in events])


def _stored(services: Services, event: EventIn, now: float) -> StoredEvent:
    suspect = services.rates.suspect(event.user_id)
    if suspect:
        services.metrics.events.labels("suspect").inc()
    return StoredEvent(
        event_id=event.event_id,
        user_id=event.user_id,
        item_id=event.item_id,
        event_type=event.event_type,
        # a clock that is ahead would put the event into everybody's future
        occurred_at=now if event.occurred_at is None else min(event.occurred_at, now),
        received_at=now,
        session_id=event.session_id,
        query=event.query,
        list_id=event.list_id,
        position=event.position,
        value=event.value,
        quantity=event.quantity,
        context=event.context,
        suspect=suspect,
    )
