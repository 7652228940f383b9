"""Who asks, as the model is told: what they did until this moment."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

import sqlalchemy as sa
import structlog

from schema import names as F
from schema.events import UserState
from serving.gateway.services import Services
from serving.store import UserRecord

_log = structlog.get_logger("shelfwise.gateway")


@dataclasses.dataclass(frozen=True)
class Visitor:
    """Somebody who asks for a list.

    Attributes:
      state: what the model is told.
      dismissed: what they do not want to see.
      unwanted: item -> visits in which it was seen and not wanted.
      known: whether the store answered.
      seconds: how long it took.
    """

    state: UserState
    dismissed: list[str]
    unwanted: dict[str, int]
    known: bool
    seconds: float

    @property
    def seen(self) -> set[str]:
        """Items of their history, and those that they dismissed."""
        return {event.item_id for event in self.state.events} | set(self.dismissed)


async def visitor(services: Services, user_id: str, context: Mapping[str, str]) -> Visitor:
    """Reads what is known of a user.

    Args:
      services: the app's.
      user_id: "" for somebody unknown.
      context: the request's; it replaces what the user's history says.
    """
    started = time.perf_counter()
    record, known = UserRecord([], [], {}), True
    settings, now = services.settings, services.clock.now()
    if user_id:
        discount = settings.impressions
        try:
            record = await services.read(
                services.store.user,
                *(user_id, settings.history_length, now),
                *(now - discount.days * F.SECONDS_PER_DAY, discount.visit_minutes * 60, discount.places),
            )
        except sa.exc.SQLAlchemyError as error:
            _log.error("store does not answer", reason=type(error).__name__)
            known = False
    before, since = [], record.events
    contexts: dict[str, str] = {}
    if user_id and not record.erased:
        before = services.histories.events(user_id, settings.history_length - len(record.events), now)
        contexts = services.histories.context(user_id)
        if not services.clock.offset:  # else the run's data are of another time
            since = services.histories.unknown(before, since, now)
    state = UserState(user_id, [*before, *since], {**contexts, **context}, services.clock.model_now())
    return Visitor(state, record.dismissed, record.unwanted, known, time.perf_counter() - started)
