"""The pages: `/`, `/search`, `/items/{id}`, `/basket`, `/people`, `/explain`, `/operations`.

A page that only shows is a GET; what changes something is a form that is posted to `/page/...`. A script gets
the same pages as parts (`X-Page-Parts: 1`).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import pydantic
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from serving.gateway.errors import Refused
from serving.gateway.events import service as events
from serving.gateway.events.schemas import EventIn
from serving.gateway.items import service as items
from serving.gateway.items.schemas import ExplainQuery
from serving.gateway.keys import Bucket
from serving.gateway.page import engine, operations, people, render, search, shelves
from serving.gateway.page.cards import Shelf
from serving.gateway.page.security import form_of
from serving.gateway.page.viewer import Viewer, someone_new
from serving.gateway.page.visit import Link, Notice, Visit, may_play
from serving.gateway.search import service as searches
from serving.gateway.search.schemas import SuggestQuery
from serving.gateway.services import Services

_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_SHOWN_STATUS = (400, 403, 404, 503, 500)
_KEPT_SECONDS = 365 * 86_400
_EVENT_TYPES = ("cart", "remove_from_cart", "not_interested")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class _Page(APIRoute):
    """A route whose errors are pages, too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                wait = request.app.state.page_bucket.take()
                if wait:
                    raise Refused(503, "too many requests", {"Retry-After": str(math.ceil(wait))})
                return await handle(request)
            except Refused as error:
                return _problem(request, error.status, error.headers)
            except HTTPException as error:
                return _problem(request, error.status_code, dict(error.headers or {}))
            except (RequestValidationError, pydantic.ValidationError):
                return _problem(request, 400, {})

        return handled


router = APIRouter(route_class=_Page, include_in_schema=False)


def install(app: FastAPI, services: Services) -> None:
    """Gives an app the pages."""
    app.state.page_bucket = Bucket(services.settings.limits.per_minute)
    app.include_router(router)


async def _visit(request: Request) -> Visit:
    visit = Visit(request, request.app.state.services)
    await visit.load()
    return visit


Visiting = Annotated[Visit, Depends(_visit)]


# ---- pages


@router.get("/")
async def home(visit: Visiting) -> Response:
    """The shelves."""
    made = await shelves.home(visit)
    t, viewer = visit.texts, visit.viewer
    shelves.warn(visit, [answer for _, answer in made])
    count = visit.past_events
    return visit.page(
        "home.html",
        greeting=t("home.hello") if viewer.is_new else t("home.hello_household", id=viewer.user_id),
        greeting_note=t("home.note_known", count=f"{count:,}") if count else t("home.note_new"),
        just_now=[_link(visit, item) for item in visit.just_now[:4]],
        shelves=[shelf for shelf, _ in made],
        engine=engine.panel(visit, made),
        explanation=None,
    )


@router.get("/search")
async def results(visit: Visiting) -> Response:
    """What was found."""
    wanted = search.Wanted.of(visit.request)
    user = visit.viewer.user_id
    query = wanted.request(user, visit.settings.result_items)
    answer = await searches.search(visit.services, query, visit.request_id)
    if wanted.query and visit.request.headers.get("sec-purpose") is None:
        await _note(visit, "search", "", query=wanted.query)
    visit.notices += search.notices(visit, wanted, answer)
    shelves.warn(visit, [answer], "fallback.search")
    shelf = shelves.shelf_of(visit, "results", answer)
    made = [(shelf, answer)]
    instead = [] if answer.items or answer.fallback else await shelves.instead(visit)
    return visit.page(
        "search.html",
        shelf=shelf,
        instead=[each for each, _ in instead],
        engine=engine.panel(visit, [*made, *instead]),
        explanation=None,
        **search.page(visit, wanted, answer),
    )


@router.get("/items/{item_id:path}")
async def item(visit: Visiting, item_id: str) -> Response:
    """One item, and what is like it; that it was opened is kept."""
    found = visit.services.catalogue.card(item_id)
    if found is None:
        raise Refused(404, "the catalogue has no such item")
    given = visit.request.query_params
    list_id, place = given.get("list", ""), given.get("at", "")
    list_id = list_id if _ID.fullmatch(list_id) else ""
    position = int(place) if place.isascii() and place.isdigit() and len(place) < 5 else None
    if visit.request.headers.get("sec-purpose") is None:  # a browser that fetches ahead shows it to nobody
        await _note(visit, "click" if list_id else "view", item_id, list_id=list_id, position=position)
    made = await shelves.similar(visit, item_id)
    shelves.warn(visit, [answer for _, answer in made])
    t = visit.texts
    card = shelves.known(visit, found, position or 0, list_id)
    facts = [
        (t("item.category"), found.category and card.caption.split(" · ")[0], _category_href(found.category)),
        (t("item.brand"), "" if found.brand.isdigit() else found.brand, ""),
        (t("item.id"), found.item_id, ""),
    ]
    return visit.page(
        "item.html",
        card=card,
        origin=Shelf("item", "item", card.title, "", list_id, [card]),
        facts=[fact for fact in facts if fact[1]],
        shelves=[shelf for shelf, _ in made],
        engine=engine.panel(visit, made),
        explanation=None,
    )


@router.get("/basket")
async def basket(visit: Visiting) -> Response:
    """The basket, and what goes with it."""
    t = visit.texts
    bought = visit.request.query_params.get("bought", "")
    if bought.isascii() and bought.isdigit() and 0 < len(bought) < 4:
        visit.notices.append(
            Notice("info", t.counted("basket.bought", int(bought)), [Link("/", t("problem.home"))])
        )
    made = await shelves.basket(visit)
    shelves.warn(visit, [answer for _, answer in made])
    cards = [found for item_id in visit.basket if (found := visit.services.catalogue.card(item_id))]
    lines = [
        {"card": shelves.known(visit, found, place), "price": visit.price(found.price), "origin": _NO_LIST}
        for place, found in enumerate(cards)
    ]
    return visit.page(
        "basket.html",
        lines=lines,
        total=visit.price(sum(found.price or 0.0 for found in cards)),
        shelves=[shelf for shelf, _ in made],
        engine=engine.panel(visit, made),
        explanation=None,
    )


@router.get("/people")
async def chooser(visit: Visiting) -> Response:
    """Who is shopping, where there is no script and no room for a menu."""
    if not may_play(visit.services):
        visit.notices.append(Notice("info", visit.texts("people.off")))
    return visit.page("people.html")


@router.get("/explain")
async def explain(visit: Visiting) -> Response:
    """Why the model thinks what it thinks of an item."""
    query = ExplainQuery(
        user_id=visit.viewer.user_id, item_id=[visit.request.query_params.get("item_id", "")]
    )
    t, shown, problem = visit.texts, None, ""
    try:
        answer = await items.explain(visit.services, query, visit.request_id)
        explained = answer.items[0]
        if any(explained.attribution.values()):
            shown = engine.explanation(t, explained)
        else:
            problem = t("explain.unranked")
    except Refused as refused:
        if refused.status != 503:
            raise
        problem = t("explain.away")
    return visit.page("explain.html", explanation=shown, problem_text=problem)


@router.get("/operations")
async def operate(request: Request) -> Response:
    """How model, store, gateway and pipeline are."""
    services: Services = request.app.state.services
    operations.check(request, services)
    visit = await _visit(request)
    return visit.page("operations.html", **await operations.page(visit))


# ---- what changes something


@router.post("/page/be")
async def be(request: Request) -> Response:
    """Makes the visitor one of the households, or somebody new."""
    form = await form_of(request)
    visit = Visit(request, request.app.state.services)
    user = form.get("user_id", "").strip()
    if not user:
        visit.viewer = someone_new()
    elif may_play(visit.services) and people.known(visit.services, user):
        visit.viewer = Viewer(user, False, True)
    else:
        key = "people.unknown" if may_play(visit.services) else "people.off"
        visit.notices.append(Notice("warning", visit.texts(key, id=user[:200])))
        return visit.page("people.html", 404)
    return visit.redirect(form.get("next", "/"))


@router.post("/page/events")
async def event(request: Request) -> Response:
    """Keeps what the visitor did with an item, and goes back to the page."""
    form = await form_of(request)
    visit = Visit(request, request.app.state.services)
    place = form.get("position", "")
    if form.get("event_type") not in _EVENT_TYPES:
        raise Refused(400, "event_type: is none that this page sends")
    kept = EventIn(
        event_id=form.get("event_id", ""),
        user_id=visit.viewer.user_id,
        event_type=form["event_type"],
        item_id=form.get("item_id", ""),
        list_id=form.get("list_id", ""),
        position=int(place) if place.isascii() and place.isdigit() and len(place) < 6 else None,
    )
    await events.take(visit.services, [kept])
    return visit.redirect(form.get("next", "/"))


@router.post("/page/checkout")
async def checkout(request: Request) -> Response:
    """Buys the basket: an order whose events count once, however often the form is sent."""
    form = await form_of(request)
    order = form.get("checkout_id", "")
    if not re.fullmatch(r"[A-Za-z0-9-]{8,48}", order):
        raise Refused(400, "checkout_id: is missing")
    visit = await _visit(request)
    cards = {item_id: visit.services.catalogue.card(item_id) for item_id in visit.basket}
    bought = [
        EventIn(
            event_id=f"{order}.{place}",
            user_id=visit.viewer.user_id,
            event_type="purchase",
            item_id=item_id,
            session_id=order,
            quantity=1.0,
            value=found.price if found else None,
        )
        for place, (item_id, found) in enumerate(cards.items())
    ]
    if bought:
        await events.take(visit.services, bought[: visit.services.settings.limits.batch_events])
    return visit.redirect(f"/basket?bought={len(bought)}")


# ---- for the script


@router.get("/page/suggest")
async def suggest(request: Request) -> Response:
    """Completions of what was typed."""
    services: Services = request.app.state.services
    visit = Visit(request, services)
    typed = request.query_params.get("q", "").replace("\0", "")[:200]
    if not typed.strip():
        return JSONResponse({"suggestions": []})
    query = SuggestQuery(prefix=typed, user_id=visit.viewer.user_id, k=8)
    answer = await searches.suggest(services, query, visit.request_id)
    shown = list(dict.fromkeys(each.text for each in answer.suggestions if each.text))
    return JSONResponse({"suggestions": shown}, headers={"Cache-Control": "no-store"})


@router.get(render.MOUNTED_AT + "/{version}/{name}")
async def static(version: str, name: str) -> Response:
    """A file of the page; its address changes with its content, so that a browser need never ask again."""
    path = next((path for path in render.static_files() if path.name == name), None)
    if path is None:
        raise Refused(404, "no such file")
    current = version == render.static_version()
    age = f"public, max-age={_KEPT_SECONDS}, immutable" if current else "no-cache"
    return Response(
        path.read_bytes(),
        media_type=_KINDS[path.suffix],
        headers={"Cache-Control": age, "X-Content-Type-Options": "nosniff"},
    )


# ---- helpers

_NO_LIST = Shelf("basket", "basket", "", "", "", [])


def _link(visit: Visit, item_id: str) -> Link:
    found = visit.services.catalogue.card(item_id)
    if found is None:
        return Link(f"/search?q={item_id}", item_id)
    card = shelves.known(visit, found)
    return Link(card.href, card.title)


def _category_href(category: str) -> str:
    return search.Wanted("", (category,), (), None, None, "relevance", 1, False).href() if category else ""


async def _note(visit: Visit, event_type: str, item_id: str, **more: Any) -> None:
    """Keeps that something was opened or searched; the same of the same list, or minute, counts once."""
    now = visit.services.clock.now()
    moment = more.get("list_id") or f"{int(now // 60)}"
    text = "\0".join((visit.viewer.user_id, event_type, item_id, more.get("query", ""), moment))
    event_id = f"page.{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"
    try:
        kept = EventIn(
            event_id=event_id, user_id=visit.viewer.user_id, event_type=event_type, item_id=item_id, **more
        )
        await events.take(visit.services, [kept])
    except Refused as refused:
        if refused.status != 503:
            raise
        visit.notices.append(
            Notice("warning", visit.texts("fallback.store"))
        )  # the page is shown all the same
    else:
        await visit.load()


def _problem(request: Request, status: int, headers: dict[str, str]) -> Response:
    """An error as a page, or as JSON where a script wants data."""
    shown = status if status in _SHOWN_STATUS else 403 if status in (401,) else 400 if status < 500 else 500
    visit = Visit(request, request.app.state.services)
    t = visit.texts
    text = (
        t("operations.refused")
        if request.url.path == "/operations" and shown == 403
        else t(f"problem.{shown}.text")
    )
    if visit.part:  # a script shows the notices of an answer that failed
        visit.notices.append(Notice("warning", text))
    response = visit.page("problem.html", status, problem_title=t(f"problem.{shown}"), problem_text=text)
    response.headers.update(headers)
    return response
