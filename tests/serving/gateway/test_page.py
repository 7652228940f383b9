"""The pages over HTTP: what a browser without scripts gets, and what it may send."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import time

import pytest
import sqlalchemy as sa

from serving.gateway.page import texts
from serving.gateway.page.viewer import COOKIE
from tests.serving import overlap_model
from tests.serving.gateway.shop import HOUSEHOLD, NASTY, Parsed, catalogue, histories

SAME = {"origin": "http://gateway"}


def run(body):
    return asyncio.run(body())


@pytest.fixture
def shop(gateway):
    """async with shop(**settings) as (client, app): the small shop's pages."""

    @contextlib.asynccontextmanager
    async def make(**settings):
        more = {"catalogue": catalogue(), "histories": histories(time.time()), **settings.pop("more", {})}
        async with gateway(more=more, **settings) as opened:
            yield opened

    return make


async def stored(app, kind=None):
    """Events of everybody, in order: (user, type, item, list)."""
    await app.state.services.writer.in_turn()
    with app.state.services.store._engine.connect() as connection:
        rows = connection.execute(
            sa.text("SELECT user_id, event_type, item_id, list_id FROM events ORDER BY received_at, event_id")
        ).all()
    return [tuple(row) for row in rows if kind in (None, row.event_type)]


def test_the_first_page_has_shelves_a_cookie_and_nothing_inline(shop):
    async def body():
        async with shop() as (client, _):
            answer = await client.get("/")
        assert answer.status_code == 200
        page = Parsed(answer.text)
        assert page.items()[:2] == ["149", "148"]  # nobody's list: the most popular first
        assert page.all("html", lang="en")
        assert not [tag for tag in page.all("script") if "src" not in tag]
        assert not page.all("style")
        assert not [
            tag for _, tag in page.tags if "style" in tag or any(name.startswith("on") for name in tag)
        ]
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}=new.new-")
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert answer.headers["cache-control"] == "no-store"

    run(body)


@pytest.mark.parametrize("path", ["/", "/items/149", "/search?q=no", "/search?q=149", "/basket"])
def test_titles_are_texts(shop, path):
    async def body():
        async with shop() as (client, _):
            home = Parsed((await client.get("/")).text)
            await client.post("/page/events", data=home.form("149", "cart"), headers=SAME)
            page = Parsed((await client.get(path)).text)
        assert not [tag for tag in page.all("img") if "onerror" in tag]
        assert NASTY in page.texts

    run(body)


@pytest.mark.parametrize(
    "query",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'; DROP TABLE events; --", "{{7*7}}"],
)
def test_queries_are_texts(shop, query):
    async def body():
        async with shop() as (client, app):
            answer = await client.get("/search", params={"q": query})
            assert answer.status_code == 200
            page = Parsed(answer.text)
            searched = await stored(app, "search")
        assert [tag["value"] for tag in page.all("input", id="q")] == [query]
        assert f"“{query}”" in page.text
        assert not page.all("img")
        assert len(searched) == 1

    run(body)


def test_languages(shop):
    async def body():
        async with shop(language="zh") as (client, _):
            found = {}
            for name, path, headers in (
                ("shop", "/", {}),
                ("header", "/", {"accept-language": "fr, en-GB;q=0.8, zh;q=0.3"}),
                ("asked", "/?lang=en", {}),
                ("cookie", "/basket", {"accept-language": "zh"}),
                ("back", "/?lang=zh", {}),
            ):
                page = Parsed((await client.get(path, headers=headers)).text)
                found[name] = page.all("html")[0]["lang"]
                word = "购物篮" if found[name] == "zh" else "Basket"
                assert word in page.text
        assert found == {"shop": "zh", "header": "en", "asked": "en", "cookie": "en", "back": "zh"}

    run(body)


def test_an_unknown_language_is_none(shop):
    async def body():
        async with shop() as (client, _):
            answer = await client.get("/?lang=<script>", headers={"accept-language": "x" * 10_000})
        assert Parsed(answer.text).all("html", lang="en")

    run(body)


def test_all_languages_say_everything():
    one, *others = (texts.words_of(code) for code in texts.LANGUAGES)
    for other in others:
        assert set(other) == set(one)


def test_a_basket_without_scripts(shop):
    async def body():
        async with shop() as (client, app):
            home = Parsed((await client.get("/")).text)
            form = home.form("148", "cart")
            sent = [await client.post("/page/events", data=form, headers=SAME) for _ in range(3)]
            assert {answer.status_code for answer in sent} == {303}
            assert sent[0].headers["location"] == "/"
            basket = Parsed((await client.get("/basket")).text)
            assert "tea no 148" in basket.text.lower()
            assert "$0.48" in basket.text
            kept = await stored(app, "cart")
            assert [(item, listed) for _, _, item, listed in kept] == [("148", form["list_id"])]
            # what goes with the basket is made from it alone, and leaves it out
            again = Parsed((await client.get("/")).text)
            assert "148" not in again.items() or again.items().count("148") == 1
            order = basket.all("input", name="checkout_id")[0]["value"]
            for _ in range(2):  # a form that is sent twice buys once
                answer = await client.post("/page/checkout", data={"checkout_id": order}, headers=SAME)
            assert answer.headers["location"] == "/basket?bought=0"
            assert [item for _, _, item, _ in await stored(app, "purchase")] == ["148"]
            assert "The basket is empty." in Parsed((await client.get("/basket")).text).text

    run(body)


def test_what_is_not_wanted_is_gone(shop):
    async def body():
        async with shop() as (client, _):
            home = Parsed((await client.get("/")).text)
            await client.post("/page/events", data=home.form("149", "not_interested"), headers=SAME)
            assert "149" not in Parsed((await client.get("/")).text).items()

    run(body)


def test_a_click_is_kept_once_and_changes_the_shelves(shop):
    async def body():
        async with shop() as (client, app):
            home = Parsed((await client.get("/")).text)
            link = next(tag["href"] for tag in home.all("a") if (tag["href"] or "").startswith("/items/147?"))
            for headers in ({"sec-purpose": "prefetch"}, {}, {}):  # fetched ahead, opened, loaded again
                assert (await client.get(link, headers=headers)).status_code == 200
            kept = await stored(app)
            assert [(kind, item) for _, kind, item, _ in kept] == [("click", "147")]
            assert kept[0][3]  # it names the list
            page = Parsed((await client.get("/")).text)
        scores = overlap_model.expected_scores([("147", 0.0)], 0)
        best = [overlap_model.ITEMS[place] for place in sorted(range(50), key=lambda place: -scores[place])]
        assert page.items()[:3] == [item for item in best if item != "147"][:3]
        assert "Just now:" in page.text

    run(body)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://gateway.evil.example"},
        {"sec-fetch-site": "cross-site", "origin": "http://gateway"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
    ],
)
@pytest.mark.parametrize("path", ["/page/events", "/page/be", "/page/checkout"])
def test_forms_of_other_sites_do_nothing(shop, path, headers):
    async def body():
        async with shop() as (client, app):
            form = Parsed((await client.get("/")).text).form("149", "cart")
            data = {**form, "user_id": HOUSEHOLD, "checkout_id": "order-12345"}
            answer = await client.post(path, data=data, headers=headers)
            assert answer.status_code == 403
            assert "another site" in Parsed(answer.text).text
            assert "be." not in answer.headers.get("set-cookie", "")
            assert not await stored(app)

    run(body)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"event_type": "purchase"}, 400),  # the page buys by a checkout
        ({"event_type": "cart", "event_id": "x"}, 400),
        ({"event_type": "cart", "event_id": "abcdefgh1234"}, 400),  # no item
        ({"event_id": "abcdefgh1234"}, 400),
    ],
)
def test_forms_that_this_page_does_not_send(shop, data, status):
    async def body():
        async with shop() as (client, app):
            answer = await client.post("/page/events", data=data, headers=SAME)
            assert answer.status_code == status
            assert Parsed(answer.text).all("h1")
            assert not await stored(app)
            many = "&".join(f"a{number}=1" for number in range(100))
            head = {**SAME, "content-type": "application/x-www-form-urlencoded"}
            assert (await client.post("/page/events", content=many, headers=head)).status_code == 400
            assert (await client.post("/page/events", content=b"\xff=%ff", headers=head)).status_code == 400
            assert (await client.post("/page/events", json={}, headers=SAME)).status_code == 415

    run(body)


@pytest.mark.parametrize(
    ("given", "leads"),
    [
        ("/search?q=milk", "/search?q=milk"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_nobody_is_sent_away(shop, given, leads):
    async def body():
        async with shop() as (client, _):
            data = {"user_id": "", "next": given}
            answer = await client.post("/page/be", data=data, headers=SAME)
        assert (answer.status_code, answer.headers["location"]) == (303, leads)

    run(body)


def test_be_a_household_and_somebody_new(shop):
    async def body():
        async with shop() as (client, app):
            first = Parsed((await client.get("/")).text)
            assert [tag["value"] for tag in first.all("button", name="user_id")][:2] == ["", HOUSEHOLD]
            await client.post("/page/be", data={"user_id": HOUSEHOLD}, headers=SAME)
            page = Parsed((await client.get("/")).text)
            assert f"Welcome back, household {HOUSEHOLD}" in page.text
            scores = overlap_model.expected_scores([("103", 7.0), ("113", 7.0)], 0)
            best = [
                overlap_model.ITEMS[place] for place in sorted(range(50), key=lambda place: -scores[place])
            ]
            assert page.items()[0] == next(item for item in best if item not in ("103", "113"))
            unknown = await client.post("/page/be", data={"user_id": "<b>x"}, headers=SAME)
            assert unknown.status_code == 404
            assert "<b>x" not in unknown.text
            await client.post("/page/be", data={"user_id": ""}, headers=SAME)
            assert "Good to see you" in Parsed((await client.get("/")).text).text
            assert (await client.get("/people")).status_code == 200

    run(body)


def test_with_keys_nobody_plays_a_household(shop):
    async def body():
        keys = [{"name": "shop", "sha256": "0" * 64}]
        async with shop(api_keys=keys) as (client, _):
            answer = await client.post("/page/be", data={"user_id": HOUSEHOLD}, headers=SAME)
            assert answer.status_code == 404
            client.cookies.set(COOKIE, "be.h%2F1%20%C3%A9")  # as a browser would have it from before
            page = Parsed((await client.get("/")).text)
            assert "Good to see you" in page.text
            assert not page.all("input", id="by-id")

    run(body)


@pytest.mark.parametrize("cookie", ["new.short", "be.", "be." + "x" * 700, "new.new-" + "é" * 22, "x"])
def test_a_cookie_that_is_none_of_ours_is_replaced(shop, cookie):
    async def body():
        async with shop() as (client, _):
            answer = await client.get("/", headers={"cookie": f"{COOKIE}={cookie}".encode()})
        assert answer.status_code == 200
        assert answer.headers["set-cookie"].startswith(f"{COOKIE}=new.new-")

    run(body)


def test_a_search_says_what_it_did(shop):
    async def body():
        async with shop() as (client, _):
            page = Parsed(
                (await client.get("/search?q=café 7&category=cat7&max_price=0,30&sort=price_desc")).text
            )
            assert page.items() == ["127", "117", "107"]
            assert [tag["value"] for tag in page.all("option") if "selected" in tag] == ["price_desc"]
            links = [tag["href"] for tag in page.all("a")]
            assert "/search?q=caf%C3%A9+7&max_price=0.3&sort=price_desc" in links  # without the category
            assert "/search?q=caf%C3%A9+7&category=cat7&sort=price_desc" in links  # without the price
            nothing = Parsed((await client.get("/search?q=nothing&category=cat7")).text)
            assert "No item matches the search with these filters." in nothing.text
            assert nothing.items()  # something else is shown
            wrong = Parsed(
                (await client.get("/search?q=café&min_price=abc&pages=99999&sort=x&max_price=nan")).text
            )
            assert "A price is a number" in wrong.text
            assert wrong.items()

    run(body)


def test_without_a_model_there_are_popular_items_and_it_says_so(shop):
    async def body():
        async with shop(model="localhost:1") as (client, _):
            home = Parsed((await client.get("/")).text)
            assert home.items()[:2] == ["149", "148"]
            assert len(home.items()) == len(set(home.items())) == 12  # one shelf, not four of the same
            assert "Personal lists are away" in home.text
            found = Parsed((await client.get("/search?q=milk")).text)
            assert found.items()[:2] == ["140", "130"]
            assert "The search is away" in found.text
            assert "Please try again" in Parsed((await client.get("/search?q=zebra")).text).text
            item = Parsed((await client.get("/items/140")).text)
            assert item.items()[0] == "130"
            explained = Parsed((await client.get("/explain?item_id=140")).text)
            assert "nothing can be explained now" in explained.text
            operations = Parsed((await client.get("/operations")).text)
            assert "No model server answers: model_unreachable" in operations.text
            assert (await client.get("/page/suggest?q=mi")).json() == {"suggestions": []}

    run(body)


def test_without_a_store_the_shelves_are_shown_and_it_says_so(shop):
    async def body():
        async with shop() as (client, app):
            await client.get("/")

            def away(*_, **__):
                raise sa.exc.OperationalError("SELECT", {}, Exception("gone"))

            store = app.state.services.store
            store._engine.dispose()
            store.user = store.recent = store.basket = store.write = store.events_per_minute = away
            page = Parsed((await client.get("/")).text)
            assert page.items()
            assert "not being remembered" in page.text
            assert (await client.get("/items/149")).status_code == 200
            answer = await client.post("/page/events", data=page.form("149", "cart"), headers=SAME)
            assert answer.status_code == 503
            assert (await client.get("/operations")).status_code == 200

    run(body)


def test_an_explanation_adds_up(shop):
    async def body():
        async with shop() as (client, _):
            await client.get("/items/103")
            page = Parsed((await client.get("/explain?item_id=113")).text)
            assert (await client.get("/explain?item_id=")).status_code == 400
        assert page.all("table")
        numbers = [
            float(text) for text in page.texts if text.strip()[:1] in "+-" and text.strip()[1:2].isdigit()
        ]
        assert numbers[-1] == pytest.approx(sum(numbers[:-1]), abs=0.02)

    run(body)


def test_what_is_not_there_is_a_page(shop):
    async def body():
        async with shop() as (client, _):
            for path in ("/items/none", "/items/../../etc/passwd", "/page/static/x/none.css", "/items/%00"):
                answer = await client.get(path)
                assert answer.status_code == 404, path
            assert Parsed((await client.get("/items/none")).text).all("h1")

    run(body)


def test_static_files_are_kept_by_browsers(shop):
    async def body():
        async with shop() as (client, _):
            page = Parsed((await client.get("/")).text)
            address = page.all("link", rel="stylesheet")[0]["href"]
            now = await client.get(address)
            old = await client.get("/page/static/old/page.css")
        assert now.text == old.text
        assert "immutable" in now.headers["cache-control"]
        assert old.headers["cache-control"] == "no-cache"
        assert now.headers["content-type"].startswith("text/css")

    run(body)


def test_parts_are_the_page_without_its_frame(shop):
    async def body():
        async with shop() as (client, _):
            whole = (await client.get("/")).text
            part = (await client.get("/", headers={"x-page-parts": "1"})).text
        names = {tag["data-part"] for _, tag in Parsed(part).tags if "data-part" in tag}
        assert names >= {"shelves", "engine", "notices", "basket-link", "hello"}
        assert names <= {tag["data-part"] for _, tag in Parsed(whole).tags if "data-part" in tag}
        assert not Parsed(part).all("html")

    run(body)


def test_operations_is_for_operators(shop):
    async def body():
        keys = [
            {"name": role, "sha256": hashlib.sha256(role.encode()).hexdigest(), "roles": [role]}
            for role in ("shop", "operator")
        ]
        async with shop(api_keys=keys) as (client, _):

            async def status(password):
                basic = base64.b64encode(f"x:{password}".encode()).decode()
                return await client.get("/operations", headers={"authorization": f"Basic {basic}"})

            asked = await client.get("/operations")
            assert asked.status_code == 401
            assert asked.headers["www-authenticate"].startswith("Basic")
            assert (await status("wrong")).status_code == 401
            assert (await status("shop")).status_code == 403
            page = await status("operator")
            assert page.status_code == 200
            assert "serving" in Parsed(page.text).text
            broken = await client.get("/operations", headers={"authorization": "Basic %%%"})
            assert broken.status_code == 401

    run(body)


def test_without_pages_there_is_the_api_alone(shop):
    async def body():
        async with shop(page={"enabled": False}) as (client, _):
            assert (await client.get("/")).status_code == 404
            assert (await client.get("/v1/recommend")).status_code == 200

    run(body)
