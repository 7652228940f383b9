"""Times and numbers as files write them, against Python's own."""

import datetime as dt

import pyarrow as pa
import pytest

from pipeline.onboarding import values

MOMENT = dt.datetime(2024, 3, 9, 17, 5, 20, tzinfo=dt.UTC)
EPOCH = int(MOMENT.timestamp())


@pytest.mark.parametrize(
    "written",
    [
        EPOCH,
        EPOCH * 1000,
        EPOCH * 10**6,
        EPOCH * 10**9,
        str(EPOCH),
        f"{EPOCH}.0",
        "2024-03-09 17:05:20",
        "2024-03-09T17:05:20Z",
        "2024-03-09T17:05:20.000000000Z",
        "2024-03-09 17:05:20 UTC",
        "2024-03-09 12:05:20 -0500",
        "2024-03-09T18:05:20+01:00",
        "2024/03/09 17:05:20",
        "9 Mar 2024 17:05:20",
        "Mar 9, 2024 17:05:20",
        MOMENT,
        MOMENT.replace(tzinfo=None),
    ],
)
def test_one_moment_written_in_many_ways(written):
    column = pa.array([written, written, None])
    (form,) = values.time_formats(column)
    assert values.to_times(column, form, "UTC").to_pylist() == [MOMENT, MOMENT, None]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC"])
def test_local_times_are_of_the_zone(zone):
    column = pa.array(["2024-07-01 12:00", "2024-12-01 12:00"])
    (form,) = values.time_formats(column)
    import zoneinfo

    wanted = [dt.datetime(2024, month, 1, 12, tzinfo=zoneinfo.ZoneInfo(zone)) for month in (7, 12)]
    assert values.to_times(column, form, zone).to_pylist() == wanted


@pytest.mark.parametrize(
    ("texts", "order"),
    [(["1/2/2024", "13/2/2024"], "day_first"), (["1/2/2024", "1/13/2024"], "month_first")],
)
def test_a_day_above_twelve_tells_the_order(texts, order):
    assert [form.order for form in values.time_formats(pa.array(texts))] == [order]


@pytest.mark.parametrize("texts", [["a", "b"], ["1", "2"], ["10.5", "3"], ["2024-13-45", "x"], [None, None]])
def test_what_is_no_time(texts):
    assert values.time_formats(pa.array(texts, pa.string())) == []


@pytest.mark.parametrize(
    ("text", "mark", "number"),
    [
        ("12.99 USD", "point", 12.99),
        ("$1,299.00", "point", 1299.0),
        ("EUR 1.299,50", "comma", 1299.5),
        ("1 299,50 €", "comma", 1299.5),
        ("1\u202f299,50 €", "comma", 1299.5),
        ("-3.5", "point", -3.5),
        ("CHF 1'299.50", "point", 1299.5),
        ("19,99 zł", "comma", 19.99),
        (".5", "point", 0.5),
        ("Tea 5", "point", None),
        ("24 oz", "point", None),
        ("", "point", None),
        ("1.2.3", "point", None),
    ],
)
def test_numbers(text, mark, number):
    assert values.to_numbers(pa.array([text]), mark).to_pylist() == [number]
    if number is not None and text[-3:].isdigit() is False and number % 1 and abs(number) >= 1:
        assert values.decimal_mark(pa.array([text])) == mark


def test_currencies():
    assert values.currencies(pa.array(["12.99 USD", "$5", "3 €", None, "7"])) == {"USD", "EUR"}


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Holds <b>300&nbsp;ml</b></p>", "Holds 300 ml"),
        ("a<br>b<script>x < 1</script>c", "a b c"),
        ("5 &lt; 6 &amp; <i>7</i>", "5 < 6 & 7"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("line\\none\r\n two", "line one two"),
        ("<p></p>", None),
    ],
)
def test_texts_without_html(html, text):
    assert values.to_text(pa.array([html])).to_pylist() == [text]
