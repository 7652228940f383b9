"""Discount, histories, pushed versions, catalogue, command: without a server."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import serve
from schema import config
from schema.config import Gateway, ImpressionDiscount, Reasons
from schema.errors import DataError, UserError
from schema.events import Event
from serving.client import Recommendation
from serving.gateway.catalogue import Catalogue, table
from serving.gateway.command import check_host, main
from serving.gateway.events.rates import Rates
from serving.gateway.histories import Histories
from serving.gateway.lists import discount
from serving.gateway.recommend.offers import Offers
from serving.gateway.release import Release

DAY = 86_400
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("own", "reason", "expected"),
    [
        ({}, "On offer this week", True),
        ({}, "On offer this week; you bought it 3 times, last in May", True),
        ({}, "You bought it 3 times, last in May", False),
        ({"on_offer": "Angebot (diese Woche)"}, "Angebot (diese Woche)", True),
        ({"on_offer": "Angebot (diese Woche)"}, "On offer this week", False),
        ({"buy_again_on_offer": "{when}: im Angebot"}, "gestern: im Angebot", True),
        ({"two_tower": "On offer? No, for you"}, "On offer? No, for you", False),
    ],
)
def test_an_offer_is_told_by_the_shop_s_own_words(own, reason, expected):
    offers = Offers(Reasons.model_validate(own))
    assert offers.has(Recommendation(1, "1", "Tea", 0.5, "two_tower", reason)) is expected
    assert offers.has(Recommendation(1, "1", "Tea", 0.5, "planned", reason))


def test_an_item_sinks_with_each_visit_in_which_it_was_not_wanted():
    settings = ImpressionDiscount(free=1, decay=0.5, floor=0.1)
    assert [discount.weight(visits, settings) for visits in range(7)] == [1, 1, 0.5, 0.25, 0.125, 0.1, 0.1]
    items = list("abcdefgh")

    def order(**visits):
        return "".join(discount.reordered(items, str, visits, settings))

    assert order(a=1) == "abcdefgh"
    assert order(a=2) == "abcdefgh"  # at 1 / 0.5 = 2, before b, which is there too
    assert order(a=3) == "bcadefgh"  # at 4, before d
    expected = sorted(
        range(8), key=lambda n: ((n + 1) / discount.weight({0: 3, 2: 2}.get(n, 0), settings), n)
    )
    assert order(a=3, c=2) == "".join(items[n] for n in expected)
    assert discount.reordered(items, str, {"a": 9}, ImpressionDiscount(enabled=False)) == items
    assert discount.depth(5, {"a": 9, "b": 1}, settings) == 6
    assert discount.depth(2, dict.fromkeys(items, 9), settings) == 4


def test_ages_of_a_runs_histories_count_on():
    columns = {
        "user_id": ["u1", "u2"],
        "history_item_id": [["a", "b", "c"], []],
        "history_age_days": [[9.0, 2.0, 1.0], []],
        "history_event_type": [["purchase"] * 3, []],
        "context_store_id": ["367", ""],
    }
    past = Histories(pa.table(columns), at=1000.0)
    known = [Event("b", 2.5, "purchase"), Event("c", 1.5, "purchase")]
    assert past.events("u1", 2, 1000 + DAY / 2) == known
    assert past.events("u2", 2, 1000) == past.events("nobody", 2, 1000) == past.events("u1", 0, 1000) == []
    assert past.context("u1") == {"store_id": "367"}
    assert past.context("u2") == past.context("nobody") == {}
    stored = [Event("c", 1.5, "purchase"), Event("d", 1.5, "view"), Event("e", 0.25, "purchase")]
    assert past.unknown(known, stored, 1000 + DAY / 2) == stored[1:]
    assert past.users() == ["u1", "u2"]
    assert len(Histories.none()) == 0


@pytest.fixture
def run(tmp_path):
    base = tmp_path / "run" / "serving" / "shelfwise"
    for version in (90, 100):
        (base / str(version) / "assets.extra").mkdir(parents=True)
        (base / str(version) / "saved_model.pb").touch()
        record = base / str(version) / "assets.extra" / "push_record.json"
        record.write_text(json.dumps({"window": [40, 60]}))
    (base / "200").mkdir()  # not complete
    rows = [{"item_id": "1", "title": "Milk", "popularity": 1.0}, {"item_id": "2", "title": "Oats"}]
    pq.write_table(table(rows), base / "100" / "assets.extra" / "catalogue.parquet")
    return base.parent.parent


def test_a_pushed_version_brings_cards_and_the_time_of_its_data(run):
    release = Release.newest(run / "serving" / "shelfwise")
    assert (release.version, release.learned_at) == (100, 40.0)
    assert release.catalogue().card("2").title == "Oats"
    assert release.clock(Gateway()).offset == 0
    assert release.clock(Gateway(clock="data")).offset == -60
    (run / "serving/shelfwise/100/assets.extra/catalogue.parquet").unlink()
    with pytest.raises(DataError, match="an earlier release; run the pipeline again"):
        release.catalogue()
    with pytest.raises(DataError, match="no model was pushed here"):
        Release.newest(run / "nowhere")


def test_cards_by_id_popularity_and_words():
    rows = [
        {"item_id": str(n), "title": f"Tea {n}", "category": "ab"[n % 2], "price": n or None, "popularity": n}
        for n in range(5)
    ]
    catalogue = Catalogue(table(rows))
    assert [card.item_id for card in catalogue.popular(2)] == ["4", "3"]
    assert [card.item_id for card in catalogue.popular(9, without={"4"}, category=["a"])] == ["2", "0"]
    assert [card.item_id for card in catalogue.find("TEA b")] == ["3", "1"]
    assert list(catalogue.find("coffee")) == []
    assert catalogue.card("0").price is None
    assert catalogue.card("9") is None
    assert catalogue.categories() == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("columns", "said"),
    [({"item_id": ["1"]}, "no column 'title'"), ({"item_id": ["1", "1"], "title": ["a", "b"]}, "twice")],
)
def test_a_wrong_catalogue_is_refused(columns, said, tmp_path):
    with pytest.raises(DataError, match=said):
        Catalogue(pa.table(columns))
    (tmp_path / "file").write_text("nothing")
    with pytest.raises(DataError, match="no catalogue"):
        Catalogue.read(tmp_path / "file")


def test_a_robot_is_known_by_its_rate():
    now = [0.0]
    rates = Rates(3, lambda: now[0])
    assert [rates.suspect("a") for _ in range(5)] == [False, False, False, True, True]
    assert not rates.suspect("b")
    now[0] = 90.0  # half of the minute before still counts: 5 / 2 and 1 / 2
    assert rates.suspect("a")
    assert not rates.suspect("b")
    now[0] = 300.0
    assert not rates.suspect("a")


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("shop.example", False),
    ],
)
def test_without_keys_only_this_machine_may_ask(host, alone):
    if alone:
        check_host(host, Gateway())
    else:
        with pytest.raises(UserError, match="configure gateway.api_keys"):
            check_host(host, Gateway())
    check_host(host, Gateway(api_keys=[{"name": "shop", "sha256": "0" * 64}]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --run"),
        (["--run", "no/such"], "no model was pushed here"),
        (["--catalogue", "no/such"], "no catalogue"),
        (["--catalogue", "x", "--histories", "y"], "--histories: needs --run"),
        (["--host", "0.0.0.0"], "--host 0.0.0.0"),
    ],
)
def test_mistakes_of_the_command_are_one_line(arguments, said, capsys):
    path = ROOT / "pipeline/configs/complete_journey.yaml"
    assert main(["--config", str(path), *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_served_run_keeps_its_events_in_its_folder_unless_told_otherwise(tmp_path):
    shop = config.load(ROOT / "pipeline/configs/complete_journey.yaml")
    given = {"config": "c", "host": "localhost", "port": 1, "log_format": "text", "set": ["ranking.epochs=1"]}
    given["runs_dir"] = tmp_path
    command = serve.gateway_command(argparse.Namespace(**given), shop, tmp_path, "localhost:7")
    settings = [command[place + 1] for place, part in enumerate(command) if part == "--set"]
    assert settings == [
        "ranking.epochs=1",
        "gateway.model_server=localhost:7",
        f"gateway.store=sqlite:///{tmp_path}/gateway.sqlite",
        f"gateway.page.runs_dir={tmp_path}",
    ]
    other = shop.model_copy(update={"gateway": Gateway(store="sqlite:///elsewhere.sqlite")})
    command = serve.gateway_command(argparse.Namespace(**given), other, tmp_path, "localhost:7")
    assert not any(part.startswith("gateway.store") for part in command)


def test_serving_a_run_that_pushed_nothing_says_what_to_do(tmp_path, capsys):
    assert serve.main(["--runs-dir", str(tmp_path)]) == 1
    assert "no model was pushed yet; run `make demo`" in capsys.readouterr().err
