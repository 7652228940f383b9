"""One request for a page: who looks, in which language, and the answer to it."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from schema import names as F
from schema.events import Event
from serving.gateway.page import people, render, security, texts
from serving.gateway.page.viewer import (
    LANGUAGE_COOKIE,
    Viewer,
    remember,
    remember_language,
    viewer_of,
)
from serving.gateway.services import Services

_LEFT = ("/people", "/page/be")  # pages that lead to another
_JUST_NOW_DAYS = 1 / 24  # what counts as just now


@dataclasses.dataclass(frozen=True)
class Link:
    """A link of a notice."""

    href: str
    text: str


@dataclasses.dataclass(frozen=True)
class Notice:
    """A line above the content: kind is "info" or "warning"."""

    kind: str
    text: str
    links: Sequence[Link] = ()


class Visit:
    """What a page needs to know of the request.

    Args:
      request: the request.
      services: the app's.
    """

    def __init__(self, request: Request, services: Services) -> None:
        self.request, self.services = request, services
        self.settings = services.settings.page
        self.viewer: Viewer = viewer_of(request, may_play(services))
        asked = request.query_params.get("lang")
        self._asked = asked if asked in texts.LANGUAGES else None
        self.texts = texts.Texts(
            texts.choose(
                asked,
                request.cookies.get(LANGUAGE_COOKIE),
                request.headers.get("accept-language", ""),
                services.settings.language,
            )
        )
        self.part = request.headers.get("x-page-parts") == "1"
        self.request_id: str = request.state.request_id
        self.notices: list[Notice] = []
        self.recent: list[Event] = []
        self.basket: list[str] = []

    async def load(self) -> None:
        """Reads what the viewer did here, and the basket; both are empty while the store is away."""
        store, settings, user = self.services.store, self.services.settings, self.viewer.user_id
        if self.viewer.fresh:
            return
        try:
            self.recent, self.basket = await asyncio.gather(
                self.services.read(store.recent, user, settings.history_length, self.services.clock.now()),
                self.services.read(store.basket, user),
            )
        except sa.exc.SQLAlchemyError:  # the lists say so
            self.recent, self.basket = [], []

    @property
    def past_events(self) -> int:
        """Events that go into this viewer's requests."""
        most = self.services.settings.history_length
        before = self.services.histories.events(self.viewer.user_id, most, self.services.clock.now())
        return min(len(before) + len(self.recent), most)

    @property
    def just_now(self) -> list[str]:
        """Items of the last hour, the newest first, each once."""
        events = [event for event in reversed(self.recent) if event.days_ago <= _JUST_NOW_DAYS]
        return list(dict.fromkeys(event.item_id for event in events))

    @property
    def here(self) -> str:
        """Path and query of the request, to come back to."""
        return f"{self.request.url.path}{self._query()}"

    def price(self, value: float | None) -> str:
        """A price with the currency; "" for none, and for one that rounds to nothing."""
        return "" if value is None or value < 0.005 else f"{self.settings.currency}{value:,.2f}"

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """The answer: a page, or its parts for a script."""
        t = self.texts
        body = render.html(
            template,
            part=self.part,
            t=t,
            language=t.language,
            languages=texts.languages(),
            with_language=self._with_language,
            shop_language=self.settings.items_language,
            shop_name=self.settings.name,
            here="/" if self.request.url.path in _LEFT else self.here,
            viewer=self.viewer,
            viewer_name=self._viewer_name(),
            people=people.offered(self.services, t) if may_play(self.services) else [],
            basket_count=len(self.basket),
            docs_url=self.request.app.docs_url,
            notices=self.notices,
            new_event_id=lambda: secrets.token_hex(16),
            **values,
        )
        return self._finished(HTMLResponse(body, status))

    def redirect(self, path: str) -> Response:
        """Sends the browser to a page of this host by GET."""
        return self._finished(RedirectResponse(security.local_path(path), 303))

    def _finished(self, response: Response) -> Response:
        secure = self.request.url.scheme == "https"
        response.headers.update(security.HEADERS)
        response.headers["Cache-Control"] = "no-store"  # it is one person's
        if self.viewer.fresh:
            remember(response, self.viewer, secure)
        if self._asked:
            remember_language(response, self._asked, secure)
        return response

    def _viewer_name(self) -> str:
        if self.viewer.is_new:
            return self.texts("people.new")
        return self.texts("people.name", id=self.viewer.user_id)

    def _with_language(self, code: str) -> str:
        return self._query(lang=code) or "?"

    def _query(self, **more: str) -> str:
        pairs = [pair for pair in self.request.query_params.multi_items() if pair[0] != "lang"]
        text = urlencode([*pairs, *more.items()])
        return f"?{text}" if text else ""


def may_play(services: Services) -> bool:
    """Whether a visitor may be one of the users with a history."""
    return services.settings.page.play_households and not services.settings.api_keys


def days(seconds: float) -> float:
    """Seconds as days."""
    return seconds / F.SECONDS_PER_DAY
