"""What the pages are made of: tiles, words, runs as files, quantiles, explanations."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import xml.etree.ElementTree as ET

import pytest
from starlette.requests import Request

from serving.gateway.items.schemas import Explained
from serving.gateway.metrics import Metrics
from serving.gateway.page import engine, operations, render, runs, texts, tiles
from serving.gateway.page.cards import shown_title
from serving.gateway.page.search import Wanted

NOW = dt.datetime(2026, 11, 28, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("category", "pictogram"),
    [
        ("FROZEN PIZZA", "pizza"),
        ("ICE CREAM/MILK/SHERBTS", "icecream"),
        ("FLUID MILK PRODUCTS", "milk"),
        ("category", ""),  # no cat
        ("shampoo", "pump"),  # no ham
        ("冷冻水饺", "snow"),
        ("Quux", ""),
    ],
)
def test_pictograms(category, pictogram):
    assert tiles.tile("1", "-", category).pictogram == pictogram


def test_tiles_are_the_same_everywhere_and_can_be_drawn():
    assert tiles.tile("1082185", "Bananas", "tropical fruit") == tiles.Tile(12, 1, "banana", "B")
    symbols = {
        element.attrib["id"]
        for element in ET.parse(render.STATIC / "tiles.svg").getroot()
        if element.tag.endswith("symbol")
    }
    assert {name for name, _ in tiles._beginnings()} <= symbols
    css = (render.STATIC / "page.css").read_text()
    assert all(f".hue-{hue} " in css for hue in range(tiles.HUES))
    assert tiles.tile("1", "", None).letter == "·"


def test_titles_as_people_write():
    assert shown_title("FRZN  MEAT. ") == "Frzn meat"
    assert shown_title("iPhone 15") == "iPhone 15"
    assert shown_title("牛奶") == "牛奶"


def test_every_word_of_a_template_is_there():
    used = set()
    for path in (render.FOLDER / "templates").glob("*.html"):
        used |= set(re.findall(r"""\bt\(["']([\w.]+)["']""", path.read_text(encoding="utf-8")))
    assert used
    assert used <= set(texts.words_of("en"))


def test_words_have_the_same_places_in_every_language():
    for key, text in texts.words_of("en").items():
        places = set(re.findall(r"{\w+}", text))
        for language in texts.LANGUAGES:
            assert set(re.findall(r"{\w+}", texts.words_of(language)[key])) == places, key


@pytest.mark.parametrize(
    ("asked", "kept", "accepted", "language"),
    [
        ("zh", "en", "en", "zh"),
        (None, "zh", "en", "zh"),
        (None, None, "de, zh-TW;q=0.9, en;q=0.5", "zh"),
        (None, None, "en;q=0, zh;q=0.1", "zh"),
        (None, None, "en;q=nan, *;q=x, ;;;", "en"),
        ("../../x", "<b>", "", "en"),
    ],
)
def test_choice_of_the_language(asked, kept, accepted, language):
    assert texts.choose(asked, kept, accepted, "en") == language


def summary(start, **more):
    stages = [
        {"name": "Load", "state": "complete", "cached": False, "seconds": 12.5, "found": "9 items"},
        {"name": "Train", "state": "complete", "cached": True, "seconds": 0.5, "found": None},
    ]
    return {
        "started": start,
        "state": "complete",
        "total_seconds": 13.0,
        "stages": stages,
        "not_run": ["Push"],
        "pushed_version": None,
        **more,
    }


def kept(folder, name, content):
    path = folder / "history" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_runs_that_ended(tmp_path):
    kept(tmp_path / "shop", "20261127-100000", summary("2026-11-27T10:00:00+00:00"))
    failed = summary("2026-11-28T10:00:00+00:00", state="failed", error={"message": "no disk"})
    kept(tmp_path / "shop", "20261128-100000", failed)
    kept(tmp_path / "other", "20261128-090000", "{half")
    kept(tmp_path / "other", "20261128-080000", {"started": 7})
    (tmp_path / "third").mkdir()
    found = runs.latest(tmp_path, 5, NOW)
    assert [run.name for run in found] == ["shop/20261128-100000", "shop/20261127-100000"]
    assert (found[0].state, found[0].error) == ("failed", "no disk")
    assert [(stage.name, stage.state) for stage in found[1].stages] == [
        ("Load", "complete"),
        ("Train", "cached"),
        ("Push", "not_run"),
    ]
    assert runs.latest(tmp_path, 1, NOW) == found[:1]
    assert runs.latest(tmp_path / "none", 5, NOW) == []


def test_a_run_that_goes_on(tmp_path):
    folder = tmp_path / "shop"
    kept(folder, "20261128-090000", summary("2026-11-28T09:00:00+00:00"))

    def line(moment, text):
        local = moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        return f"{local},123 I root component {text}\n"

    hour = dt.timedelta(hours=1)
    (folder / "run.log").write_text(
        line(NOW - 3 * hour, "Load starts")  # of the run before
        + line(NOW - hour, "Load starts")
        + "something else\n"
        + line(NOW - hour / 2, "Load: complete, 10 items: all")
        + line(NOW - hour / 4, "Train starts")
    )
    (folder / ".lock").write_text(f"{os.getpid()}\n")
    live, before = runs.latest(tmp_path, 5, NOW)
    assert (live.state, before.state) == ("running", "complete")
    assert live.started == NOW - hour
    assert live.seconds == 3600
    assert [(stage.name, stage.state, stage.seconds, stage.found) for stage in live.stages] == [
        ("Load", "complete", 1800.0, "10 items: all"),
        ("Train", "running", 900.0, ""),
        ("Push", "not_run", 0.0, ""),
    ]
    (folder / ".lock").write_text("no number")
    assert [run.state for run in runs.latest(tmp_path, 5, NOW)] == ["complete"]


def test_quantiles_of_a_histogram():
    metrics = Metrics()
    for seconds in [0.003] * 50 + [0.015] * 45 + [9.0] * 5:
        metrics.seconds.labels("/").observe(seconds)
    metrics.requests.labels("/", "GET", "200").inc(97)
    metrics.requests.labels("/", "GET", "503").inc(3)
    metrics.requests.labels("/page/static/{version}/{name}", "GET", "200").inc(900)
    (route,) = operations._routes(metrics)
    assert (route.count, route.errors) == (100, 3)
    assert route.milliseconds(0.25) == "4"  # half of the bucket from 2.5 to 5 ms
    assert route.milliseconds(0.95) == "20"
    assert route.milliseconds(0.99) == "> 5,000"


def test_a_waterfall_ends_at_the_item():
    explained = Explained(
        item_id="1", title="MILK", log_odds=0.5, baseline=-2.0, attribution={"taste": 3.0, "offer": -0.5}
    )
    shown = engine.explanation(texts.Texts("en"), explained)
    base, taste, offer, whole = shown["rows"]
    low, high = -2.0, 1.0
    scale = 100 / (high - low)
    assert shown["zero"] == pytest.approx(-low * scale, abs=0.01)
    assert (base.x, base.width) == (0.0, pytest.approx(2 * scale, abs=0.01))
    assert (taste.x, taste.width) == (0.0, pytest.approx(3 * scale, abs=0.01))
    assert (offer.sign, offer.x) == ("minus", pytest.approx(2.5 * scale, abs=0.01))
    assert (whole.value, whole.x) == ("+0.50", shown["zero"])
    assert shown["probability"] == "62.2%"
    assert shown["title"] == "Milk"
    nothing = engine.explanation(
        texts.Texts("zh"), Explained(item_id="2", title="", log_odds=0, baseline=0, attribution={})
    )
    assert nothing["title"] == "2"


def wanted(query):
    return Wanted.of(Request({"type": "http", "query_string": query.encode(), "headers": []}))


def test_an_address_is_read_as_it_was_written():
    given = wanted("q=a+%26+b&category=x%2Fy&category=z&brand=7&max_price=2,5&sort=price&pages=3&other=1")
    assert given == Wanted("a & b", ("x/y", "z"), ("7",), None, 2.5, "price", 3, False)
    again = wanted(given.href(pages=3).partition("?")[2])
    assert again == given
    assert wanted(given.href().partition("?")[2]).pages == 1


@pytest.mark.parametrize("text", ["-1", "1e13", "nan", "inf", "abc", "1.2.3"])
def test_what_is_no_price_is_left_out(text):
    found = wanted(f"min_price={text}")
    assert found.min_price is None
    assert found.bad_price
