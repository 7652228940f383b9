"""Tables that no export describes: roles by name and content, what is left out, what is asked."""

import gzip
import json
import math
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.onboarding import command
from schema.config.loading import load
from tests.pipeline.onboarding import exports as X
from tests.pipeline.onboarding.shops import fail, init, write


def test_order_lines_with_guests_returns_and_postage(tmp_path, capsys):
    shop = init(tmp_path, capsys, "time_zone=Europe/London", events={"orders.csv": X.ONLINE_RETAIL})
    assert shop.events("user_id", "item_id", "session_id", "quantity", "value") == [
        ("17850", "85123A", "536365", 6.0, pytest.approx(15.3)),
        ("17850", "71053", "536365", 6.0, pytest.approx(20.34)),
        (None, "85123A", "536366", 2.0, pytest.approx(5.1)),
        (None, "71053", "536366", 1.0, pytest.approx(3.39)),
        ("12583", "71053", "536380", 12.0, pytest.approx(40.68)),
    ]
    # a title is the most frequent one
    assert shop.items("item_id", "title") == [
        ("71053", "WHITE METAL LANTERN"),
        ("85123A", "WHITE HANGING HEART"),
    ]
    assert shop.config.events.guests == "drop"
    assert shop.config.serving.time_zone == "Europe/London"
    assert "1 are returns or voids" in shop.said
    assert "POST (1), gift_0001_20 (1)" in shop.said


def test_german_orders(tmp_path, capsys):
    shop = init(
        tmp_path, capsys, "time_zone=Europe/Berlin", events={"orders.csv": X.GERMAN_ORDERS.encode("cp1252")}
    )
    assert shop.events("user_id", "item_id", "quantity", "value") == [
        ("K7", "0012", 2.0, 2599.0),
        ("K7", "0013", 1.0, 12.0),
        ("K8", "0012", 1.0, 1299.5),
    ]
    assert shop.events("timestamp")[0][0].isoformat() == "2024-01-31T09:00:00+00:00"
    assert shop.items("title", "category", "subcategory") == [
        ("Käsebrett groß", "Küche", "Bretter"),
        ("Messer", "Küche", "Messer"),
    ]
    assert "E-Mail           left out: personal data" in shop.said


def rows(count, seed=0):
    """Order lines of regulars: nearly everybody comes again and again, and buys the same again."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        item = rng.randrange(12)
        if number % 2 == 0:
            client = f"c{rng.randrange(8)}"
        found.append(
            {
                "client": client,
                "order_no": f"o{number // 2}",
                "ordered_at": f"2024-{1 + number * 11 // count:02}-{1 + number % 28:02} 10:00:00",
                "article_nr": f"{item:03}",
                "article_name": f"Article {item}",
                "units": str(rng.randrange(1, 4)),
                "unit_price": f"{1 + item / 4:.2f}",
            }
        )
    return found


def csv(found):
    return "\n".join([",".join(found[0]), *(",".join(row.values()) for row in found)]) + "\n"


def kinds(found):
    """The same rows as files of each kind."""
    text = csv(found)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(found), sink)
    zstd = pa.compress(text.encode(), "zstd", asbytes=True)
    return {
        "o.csv": text,
        "o.tsv": text.replace(",", "\t"),
        "sheet.csv": ("\ufeff" + text).replace(",", ";").replace("\n", "\r\n"),
        "utf16.csv": text.encode("utf-16"),
        "o.csv.gz": gzip.compress(text.encode()),
        "o.csv.zst": zstd,
        "o.jsonl": "".join(json.dumps(row) + "\n" for row in found),
        "o.jsonl.gz": gzip.compress("".join(json.dumps(row) + "\n" for row in found).encode()),
        "o.parquet": sink.getvalue().to_pybytes(),
    }


@pytest.mark.parametrize("name", kinds(rows(2)))
def test_every_kind_of_file_gives_the_same(tmp_path, capsys, name):
    found = rows(60)
    shop = init(tmp_path, capsys, events={name: kinds(found)[name]})
    assert shop.events("user_id", "item_id", "session_id", "quantity", "value") == [
        (
            r["client"],
            r["article_nr"],
            r["order_no"],
            float(r["units"]),
            float(r["units"]) * float(r["unit_price"]),
        )
        for r in found
    ]
    assert set(shop.items("item_id", "title")) == {(r["article_nr"], r["article_name"]) for r in found}


def test_several_files_are_one_table(tmp_path, capsys):
    found = rows(40)
    files = {
        "a.csv": csv(found[:15]),
        "b.csv.gz": gzip.compress(csv(found[15:30]).encode()),
        "c.csv": csv(found[30:]),
    }
    shop = init(tmp_path, capsys, events=files)
    assert len(shop.tables["events"]) == 40
    assert "and 2 more" in shop.said


def test_windows_follow_the_span_of_the_data(tmp_path, capsys):
    shop = init(tmp_path, capsys, events={"o.csv": csv(rows(300))})
    assert (shop.config.split.strategy, shop.config.split.test_days) == ("time", 28)
    assert shop.config.candidates.buy_again > 0
    short = [{**row, "ordered_at": f"2024-03-{1 + n // 12:02} 10:00:00"} for n, row in enumerate(rows(240))]
    shop = init(tmp_path, capsys, events={"o.csv": csv(short)})
    assert shop.config.split.test_days == shop.config.ranking.window_days == 19 // 8


def test_what_is_bought_once_is_not_offered_again(tmp_path, capsys):
    once = [{**row, "client": f"c{n % 7}", "article_nr": f"{n // 7}"} for n, row in enumerate(rows(100))]
    shop = init(tmp_path, capsys, events={"o.csv": csv(once)})
    assert shop.config.candidates.buy_again == 0
    assert shop.config.quality.must_beat == ["popularity", "popularity_recent"]


def test_movielens_as_recbole_writes_it(tmp_path, capsys):
    ratings = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    ratings += [f"{n % 5}\t{n % 7}\t{1 + n % 5}\t{881250949 + n * 1000}" for n in range(35)]
    films = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    films += [f"{n}\tFilm {n}\t199{n}\tComedy {n % 2}" for n in range(7)]
    shop = init(
        tmp_path,
        capsys,
        "time_zone=UTC",
        events={"ml.inter": "\n".join(ratings)},
        items={"ml.item": "\n".join(films)},
    )
    assert shop.events("user_id", "item_id", "value")[:2] == [("0", "0", 1.0), ("1", "1", 2.0)]
    assert shop.items("title", "category")[0] == ("Film 0", "Comedy 0")
    assert shop.config.events.session_gap_minutes == 0


def test_names_that_say_nothing_are_told_by_content(tmp_path, capsys):
    names = {
        "client": "a",
        "order_no": "order",
        "ordered_at": "b",
        "article_nr": "c",
        "article_name": "title",
    }
    found = [{names.get(key, key): value for key, value in row.items()} for row in rows(200)]
    shop = init(tmp_path, capsys, events={"o.csv": csv(found)})
    assert shop.events("user_id")[0] == (found[0]["a"],)
    assert shop.events("item_id")[0] == (found[0]["c"],)
    assert "the only times" in shop.said
    assert "each of its values has one title" in shop.said


def test_what_nobody_can_tell_is_named(tmp_path, capsys):
    text = "x,y,when\n1,2,2024-01-01\n3,4,2024-01-02\n"
    error = fail(tmp_path, capsys, events={"o.csv": text})
    assert "events: which column is the user (x, y, when): give --answer events.user_id=..." in error
    answers = ("events.user_id=x", "events.item_id=y")
    shop = init(tmp_path, capsys, *answers, events={"o.csv": text})
    assert shop.events("user_id", "item_id") == [("1", "2"), ("3", "4")]


def test_a_person_is_asked(tmp_path, capsys, monkeypatch):
    asked = []
    answers = {"which column is the user": "x", "which column is the item": "y", "time zone": "Asia/Tokyo"}

    def reply(question):
        asked.append(question)
        return next(answer for key, answer in answers.items() if key in question)

    monkeypatch.setattr("builtins.input", reply)
    text = "x,y,when\n1,2,2024-01-01 08:00\n3,4,2024-01-02 09:00\n"
    folder = write(tmp_path / "in", {"o.csv": text})
    assert command.main(["--events", str(folder), "--output", str(tmp_path / "shop.yaml")]) == 0
    assert len(asked) == 3
    assert load(tmp_path / "shop.yaml").serving.time_zone == "Asia/Tokyo"
    first = pq.read_table(tmp_path / "shop" / "events.parquet").to_pylist()[0]
    assert first["timestamp"].isoformat() == "2023-12-31T23:00:00+00:00"


DATES = "user_id,item_id,date\n" + "".join(f"1,2,{day:02}/03/2024\n" for day in range(1, 10))


@pytest.mark.parametrize(("order", "last"), [("day_first", "2024-03-09"), ("month_first", "2024-09-03")])
def test_days_and_months_are_asked_for_where_they_could_be_either(tmp_path, capsys, order, last):
    shop = init(tmp_path, capsys, f"dates={order}", events={"o.csv": DATES})
    assert max(shop.events("timestamp"))[0].date().isoformat() == last


def test_the_likelier_order_is_proposed(tmp_path, capsys):
    shop = init(tmp_path, capsys, events={"o.csv": DATES})  # days in a row, not months
    assert "which comes first? day_first" in shop.said
    assert max(shop.events("timestamp"))[0].date().isoformat() == "2024-03-09"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "the folder holds no files"),
        ({"o.csv": "user_id,item_id,timestamp\n"}, "the file has no rows"),
        (
            {"o.csv": "user_id,item_id,timestamp\n1,2,soon\n"},
            "events: which column is the time",
        ),
        ({"o.xlsx": b"PK\x03\x04rest"}, "is a zip archive or a spreadsheet"),
        ({"o.json": '[{"user_id": 1}]'}, "is a JSON array: write one object a line"),
        ({"o.xml": "<rss/>"}, "is XML or HTML"),
        ({"o.parquet": b"PAR1 and no more"}, "cannot be read"),
        (
            {"a.csv": "user_id,item_id,timestamp\n1,2,3\n", "b.csv": "nr,title\n1,Tea\n"},
            "have different columns",
        ),
        ({"e.csv": X.RETAILROCKET, "r.csv": X.REES46}, "files of several kinds (RetailRocket events: "),
        ({"o.csv": X.INSTACART_LINES}, "needs orders.csv"),
        ({"o.csv": "1,1,2268318,pv,1511544070\n1,2,2333346,pv,1511561733\n"}, "is no header; put one on top"),
        ({"o.csv": "user_id,item_id,timestamp\n1,2,3,4\n"}, "cannot be read (CSV parse error"),
    ],
)
def test_faults_are_one_line(tmp_path, capsys, files, said):
    assert said in fail(tmp_path, capsys, events=files)


def test_two_currencies_are_not_added_up(tmp_path, capsys):
    text = "customer_id,sku,order_id,date,price\n" + "".join(
        f"c{n},s{n},o{n},2024-01-0{n + 1} 10:00,{n + 1}.50 {'EUR' if n % 2 else 'USD'}\n" for n in range(6)
    )
    error = fail(tmp_path, capsys, events={"o.csv": text})
    assert "several currencies; keep the rows in (EUR, USD): give --answer currency=..." in error


def test_a_catalogue_that_does_not_fit_is_named(tmp_path, capsys):
    items = "sku,title\nx1,Tea\nx2,Milk\n"
    error = fail(tmp_path, capsys, events={"o.csv": csv(rows(20))}, items={"i.csv": items})
    assert "100% of the events are of items that this table lacks" in error


def test_an_answer_to_no_question_is_a_mistake(tmp_path, capsys):
    error = fail(tmp_path, capsys, "guest=drop", events={"o.csv": csv(rows(20))})
    assert "--answer guest: answers no question" in error


def test_cells_that_do_not_fit_are_left_out_and_counted(tmp_path, capsys):
    found = rows(200)
    found[5]["unit_price"] = "?"
    found[6]["ordered_at"] = "soon"
    found[7]["article_nr"] = ""
    found[8]["units"] = "-1"
    shop = init(tmp_path, capsys, events={"o.csv": csv(found)})
    assert len(shop.tables["events"]) == 196
    for reason in ("1 have no price", "1 have no time", "1 name no item", "1 are returns"):
        assert f"left out: {reason}" in shop.said


def test_schemas_say_what_the_tables_are(tmp_path, capsys):
    users = "client,age,segment\n" + "".join(f"c{n},{20 + n % 2},{'AB'[n % 2]}\n" for n in range(8))
    shop = init(tmp_path, capsys, events={"o.csv": csv(rows(120))}, users={"u.csv": users})
    events = {feature.name: feature for feature in shop.schemas["events"].feature}
    assert events["timestamp"].int_domain.min == min(t.timestamp() for (t,) in shop.events("timestamp"))
    assert {domain.name: list(domain.value) for domain in shop.schemas["events"].string_domain} == {
        "event_type": ["purchase"]
    }
    assert all(math.isclose(events[n].presence.min_fraction, 1) for n in ("user_id", "target_item_id"))
    assert [feature.name for feature in shop.schemas["items"].feature] == ["item_id", "text_title"]
    assert [feature.name for feature in shop.schemas["users"].feature] == ["user_id", "age", "segment"]
    assert shop.config.users.sensitive == ["age"]


def test_ids_that_a_spreadsheet_rounded_are_refused(tmp_path, capsys):
    text = csv(rows(20)).replace(",000,", ",5.5E+12,").replace(",001,", ",5.5E+12,")
    assert "a spreadsheet has rounded these ids" in fail(tmp_path, capsys, events={"o.csv": text})


def test_a_time_to_come_moves_no_window(tmp_path, capsys):
    found = rows(100)
    found[3]["ordered_at"] = "2037-01-01 10:00:00"
    shop = init(tmp_path, capsys, events={"o.csv": csv(found)})
    assert len(shop.tables["events"]) == 99
    assert "left out: 1 are later than tomorrow" in shop.said


def test_columns_whose_name_is_there_twice_are_left_out(tmp_path, capsys):
    text = "user_id,item_id,note,timestamp,note\n1,2,a,1431000000,b\n2,3,a,1431000001,b\n"
    shop = init(tmp_path, capsys, events={"o.csv": text})
    assert shop.events("user_id", "item_id") == [("1", "2"), ("2", "3")]
    assert "note       left out: its name is there twice" in shop.said


def test_unknown_types_of_events_are_named(tmp_path, capsys):
    text = (
        "user_id,item_id,timestamp,action\n1,2,1431000000,buy\n2,3,1431000001,gekauft\n2,3,1431000001,view\n"
    )
    shop = init(tmp_path, capsys, events={"o.csv": text})
    assert len(shop.events("user_id")) == 1
    assert "event type 'gekauft', 1 rows: unknown, left out (--answer type.gekauft=purchase" in shop.said
    shop = init(tmp_path, capsys, "type.gekauft=purchase", events={"o.csv": text})
    assert shop.events("user_id") == [("1",), ("2",)]


def test_all_that_users_do_is_learned_from(tmp_path, capsys):
    """Under one name each, with a weight; money and numbers are of what was bought."""
    did = ("pv", "addtocart", "buy", "scroll")
    text = "user_id,item_id,timestamp,action,units,price\n" + "".join(
        f"{n % 3},{n % 5},{1431000000 + 60 * n},{did[n % 4]},{n % 4},{n + 1.5}\n" for n in range(40)
    )
    shop = init(tmp_path, capsys, events={"o.csv": text})
    events = shop.config.events
    assert events.columns.event_type == "event_type"
    assert events.default_event_type == "purchase"
    assert events.event_weights == {"purchase": 1.0, "cart": 0.3, "view": 0.1}
    rows = {
        kind: [n for n in range(40) if n % 4 == at] for at, kind in enumerate(("view", "cart", "purchase"))
    }
    for kind, wanted in rows.items():
        found = shop.events("user_id", "item_id", "quantity", "value", kind=kind)
        bought = kind == "purchase"
        assert found == [
            (str(n % 3), str(n % 5), 2.0 if bought else 1.0, 2 * (n + 1.5) if bought else None)
            for n in wanted
        ]
    assert "left out: 10 are 'scroll' (other)" in shop.said
    domains = {domain.name: list(domain.value) for domain in shop.schemas["events"].string_domain}
    assert domains == {"event_type": ["purchase", "cart", "view"]}


@pytest.mark.parametrize(("item", "searched"), [("2", False), ("85123A", True)])
def test_a_catalogue_of_numbers_has_no_search(tmp_path, capsys, item, searched):
    """Nobody types a number that only the shop knows, and there is no query to learn from."""
    text = f"user_id,item_id,timestamp,action\n1,{item},1431000000,buy\n2,3,1431000001,view\n"
    shop = init(tmp_path, capsys, events={"o.csv": text})
    assert shop.config.items.text == ["item_id"]
    assert shop.config.search.enabled == searched


def test_events_that_are_no_purchases_can_be_dropped(tmp_path, capsys):
    text = "user_id,item_id,timestamp,action\n1,2,1431000000,buy\n2,3,1431000001,view\n"
    shop = init(tmp_path, capsys, "other_events=drop", events={"o.csv": text})
    assert shop.tables["events"] == [
        {"user_id": "1", "item_id": "2", "timestamp": shop.events("timestamp")[0][0]}
    ]
    assert shop.config.events.event_weights == {"purchase": 1.0}
    assert shop.config.events.columns.event_type is None
    assert "event type 'view', 1 rows: view: left out" in shop.said


def test_what_is_bought_again_is_counted_in_purchases(tmp_path, capsys):
    """Somebody who looks at an item every day buys nothing again."""
    text = "user_id,item_id,timestamp,action\n" + "".join(
        f"u{n % 5},i{n % 5},{1431000000 + 86400 * n},{'buy' if n > 55 else 'view'}\n" for n in range(60)
    )
    shop = init(tmp_path, capsys, events={"o.csv": text})
    assert "hardly anything is bought twice" in shop.said
    assert shop.config.candidates.buy_again == 0
    # who bought in the last days had looked before
    assert shop.config.split.strategy == "time"


def test_a_log_of_views_alone_is_learned_from(tmp_path, capsys):
    text = "user_id,item_id,timestamp,action\n1,2,1431000000,view\n2,3,1431000001,view\n"
    shop = init(tmp_path, capsys, events={"o.csv": text})
    assert shop.config.events.event_weights == {"view": 1.0}


def test_promotions_become_channels(tmp_path, capsys):
    text = "article_nr,store_id,start_date,leaflet\n" + "".join(
        f"{n % 12:03},s{n % 3},2024-0{1 + n % 6}-01,{'AB'[n % 2]}\n" for n in range(24)
    )
    shop = init(tmp_path, capsys, events={"o.csv": csv(rows(120))}, promotions={"p.csv": text})
    exposures = shop.config.exposures
    assert (exposures.item_id, exposures.store, exposures.channels) == (
        "item_id",
        "store",
        {"leaflet": "leaflet"},
    )
    names = {feature.name for feature in shop.schemas["items"].feature}
    assert {"exposure_week", "exposure_leaflet"} <= names
    found = pq.read_table(tmp_path / "shop" / "promotions.parquet").to_pylist()
    assert found[1]["item_id"] == "001"
    assert found[1]["time"].isoformat() == "2024-02-01T00:00:00+00:00"


def test_users_without_events_mean_nothing(tmp_path, capsys):
    error = fail(
        tmp_path, capsys, items={"i.csv": "sku,title\n1,Tea\n2,Milk\n"}, users={"u.csv": "user_id\n1\n"}
    )
    assert "--users: means nothing without --events" in error


def test_lines_and_orders_in_two_files(tmp_path, capsys):
    found = rows(60)
    of_order = ("order_no", "client", "ordered_at")
    orders = {row["order_no"]: {name: row[name] for name in of_order} for row in found}
    lines = [{name: row[name] for name in row if name not in of_order[1:]} for row in found]
    shop = init(
        tmp_path, capsys, events={"a_lines.csv": csv(lines), "orders.csv": csv(list(orders.values())[::-1])}
    )
    assert shop.events("user_id", "item_id", "session_id") == [
        (orders[r["order_no"]]["client"], r["article_nr"], r["order_no"]) for r in found
    ]


def test_nested_orders(tmp_path, capsys):
    orders = [
        {
            "orderId": n,
            "createdAt": f"2024-03-0{1 + n}T10:00:00Z",
            "customer": {"id": f"c{n % 2}", "email": "a@example.com"},
            "lines": [{"product": {"id": f"p{k}", "name": f"Tea {k}"}, "qty": k + 1} for k in range(2)],
        }
        for n in range(4)
    ]
    text = "".join(json.dumps(order) + "\n" for order in orders)
    shop = init(tmp_path, capsys, events={"orders.jsonl": text})
    wanted = [(f"c{n % 2}", f"p{k}", str(n), k + 1.0) for n in range(4) for k in range(2)]
    assert shop.events("user_id", "item_id", "session_id", "quantity") == wanted
    assert shop.items("item_id", "title") == [("p0", "Tea 0"), ("p1", "Tea 1")]
    assert "customer.email      left out: personal data" in shop.said


def test_items_without_ids_are_named_by_their_text(tmp_path, capsys):
    goods = ["whole milk", "rolls/buns", "soda"]
    text = "Member_number,Date,itemDescription\n" + "".join(
        f"{1000 + n % 7},{1 + n % 28:02}-{1 + n // 28:02}-2015,{goods[n % 3]}\n" for n in range(90)
    )
    shop = init(tmp_path, capsys, events={"groceries.csv": text})
    assert shop.events("user_id", "item_id")[:2] == [("1000", "whole milk"), ("1001", "rolls/buns")]
    assert shop.events("timestamp")[30][0].date().isoformat() == "2015-02-03"
    assert shop.items("title") == [("rolls/buns",), ("soda",), ("whole milk",)]


def test_an_orders_total_is_no_lines_value(tmp_path, capsys):
    found = rows(60)
    totals = {}
    for row in found:
        totals[row["order_no"]] = totals.get(row["order_no"], 0) + float(row["unit_price"]) * float(
            row["units"]
        )
    for row in found:
        row["total"] = f"{totals[row['order_no']]:.2f}"
    shop = init(tmp_path, capsys, events={"o.csv": csv(found)})
    assert shop.events("value")[0] == (float(found[0]["units"]) * float(found[0]["unit_price"]),)
    assert "left out: it seems to be the total of an order" in shop.said
    lines = [{**row, "total": f"{float(row['units']) * float(row['unit_price']) * 0.9:.2f}"} for row in found]
    shop = init(tmp_path, capsys, events={"o.csv": csv(lines)})
    assert shop.events("value")[0] == (float(lines[0]["total"]),)


def test_french_headers(tmp_path, capsys):
    text = "N° commande;Date de commande;Client;Référence produit;Désignation;Quantité;Prix unitaire TTC\n"
    text += "".join(
        f"C{n // 2};{1 + n % 28:02}/{1 + n // 28:02}/2024 14:{n % 60:02};CL{n // 2 % 7};"
        f"REF{n % 9};Théière {n % 9};"
        f"{1 + n % 3};{12 + n % 9},50 €\n"
        for n in range(90)
    )
    shop = init(tmp_path, capsys, events={"commandes.csv": text.encode("cp1252")})
    assert shop.events("session_id", "user_id", "item_id", "quantity", "value")[1] == (
        "C0",
        "CL0",
        "REF1",
        2.0,
        27.0,
    )
    assert ("REF1", "Théière 1") in shop.items("item_id", "title")


def test_codes_of_types_are_never_taken_for_purchases(tmp_path, capsys):
    text = "user_id,item_id,behavior_type,time\n" + "".join(
        f"{n % 9},{n % 31},{1 + n % 4},2014-12-{1 + n % 18:02} {n % 24:02}\n" for n in range(80)
    )
    error = fail(tmp_path, capsys, events={"o.csv": text})
    assert "has 1, 2, 3, 4, none of which is known; say what is a purchase by --answer type.NAME=" in error
    shop = init(tmp_path, capsys, "type.4=purchase", "type.1=view", events={"o.csv": text})
    assert len(shop.events("timestamp")) == 20
    assert shop.events("timestamp")[0][0].isoformat() == "2014-12-04T03:00:00+00:00"


def test_a_column_of_two_types_in_two_files(tmp_path, capsys):
    one = '{"user_id": 1, "item_id": 7, "timestamp": 1431000000}\n'
    two = '{"user_id": "b", "item_id": "x", "timestamp": "1431000005"}\n'
    shop = init(tmp_path, capsys, events={"a.jsonl": one, "b.jsonl": two})
    assert shop.events("user_id", "item_id") == [("1", "7"), ("b", "x")]


def test_prices_that_many_purchases_lack_are_not_used(tmp_path, capsys):
    found = [{**row, "unit_price": "" if n % 3 == 0 else row["unit_price"]} for n, row in enumerate(rows(60))]
    shop = init(tmp_path, capsys, events={"o.csv": csv(found)})
    assert len(shop.tables["events"]) == 60
    assert shop.config.events.columns.value is None
    assert "left out: 33% of the purchases have no number there" in shop.said


def test_a_configuration_is_not_written_over_unasked(tmp_path, capsys):
    (tmp_path / "shop.yaml").write_text("name: mine\n")
    folder = write(tmp_path / "in", {"o.csv": csv(rows(40))})
    arguments = ["--events", str(folder), "--yes", "--output", str(tmp_path / "shop.yaml")]
    assert command.main(arguments) == 1
    assert "is there; write it anew (yes, no): give --answer overwrite=..." in capsys.readouterr().err
    assert (tmp_path / "shop.yaml").read_text() == "name: mine\n"
    assert not (tmp_path / "shop").exists()
    assert command.main([*arguments, "--answer", "overwrite=yes"]) == 0
    assert load(tmp_path / "shop.yaml").name == "shop"


def test_further_words_and_attributes_of_items(tmp_path, capsys):
    made = ["Clay", "Steel"]
    items = "article_nr,label,material,maker_id,weight,page,listed\n" + "".join(
        f"{n:03},Tea {n},{made[n % 2]},{n // 4},{n}.5,https://x.example/{n},2024-01-0{1 + n % 9}\n"
        for n in range(12)
    )
    shop = init(tmp_path, capsys, events={"o.csv": csv(rows(60))}, items={"i.csv": items})
    assert shop.config.items.text == ["label", "material"]
    assert shop.config.items.categorical == {"material": "material", "maker_id": "maker_id"}
    assert "material    words about the item, and an attribute" in shop.said
    assert {f.name for f in shop.schemas["items"].feature} == {
        "item_id",
        "text_label",
        "text_material",
        "material",
        "maker_id",
    }


def test_promotions_by_numbers_of_weeks(tmp_path, capsys):
    text = "article_nr,week,leaflet\n" + "".join(
        f"{n % 12:03},{1 + n % 5},{'AB'[n % 2]}\n" for n in range(24)
    )
    given = {"events": {"o.csv": csv(rows(60))}, "promotions": {"p.csv": text}}
    assert "when does week 1 of column 'week' begin" in fail(tmp_path, capsys, **given)
    assert "no date" in fail(tmp_path, capsys, "origin=monday", **given)
    shop = init(tmp_path, capsys, "origin=2024-01-01T05:00", **given)
    time = shop.config.exposures.time
    assert (time.unit, time.origin.isoformat(), time.first) == ("week", "2024-01-01T05:00:00", 1)


def test_questions_that_nobody_can_answer(tmp_path, capsys, monkeypatch):
    def closed(question):
        raise EOFError

    monkeypatch.setattr("builtins.input", closed)
    folder = write(tmp_path / "in", {"o.csv": csv(rows(40))})
    assert command.main(["--events", str(folder), "--output", str(tmp_path / "shop.yaml")]) == 1
    assert "nobody is there to answer; give --yes" in capsys.readouterr().err
