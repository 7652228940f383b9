"""Any text in place of a configuration is one line of error, and what is read is what was written."""

import math

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from schema import config
from schema.config import loading
from schema.errors import ConfigError
from tests.properties import drawn, outcome

SHOP = """\
name: shop
data: {root: data}
events:
  path: events.csv
  columns: {user_id: u, item_id: i, timestamp: t}
  event_weights:
    purchase: 1.0
items:
  path: items.csv
  item_id: i
  text: [title, brand]
  categorical: {brand: brand}
split:
  end: 2026-11-27
  eval_days: 14
quality:
  ks: [10, 20]
  max_users: 100
"""
# What YAML takes for dates, numbers, words, tags, anchors and structure.
PIECES = st.sampled_from(
    [
        *(
            "2026-13-45",
            "2026-11-27",
            "2026-11-27 25:00:00",
            "2026-11-27T00:00:00+99:99",
            "12:99",
            "0x_",
            "0o9",
        ),
        *(
            "1e999",
            ".inf",
            ".nan",
            "-",
            "yes",
            "~",
            "null",
            "''",
            '"\\UFFFFFFFF"',
            '"\\ud800"',
            "!!int a",
            "1_000",
        ),
        *(
            "!!float ''",
            "!!timestamp a",
            "!!binary '*'",
            "!!python/none",
            "!x",
            "&a",
            "*a",
            "<<: *a",
            "? x",
            "[]",
        ),
        *(
            "{}",
            "{a: 1}",
            "- 1",
            "%YAML 9.9",
            "---",
            "\t",
            "\x01",
            "é",
            "@",
            "`",
            "|",
            ">",
            ": ",
            "#",
            "9" * 5000,
        ),
    ]
)
VALUES = PIECES | st.text(max_size=6) | st.integers().map(str) | st.floats().map(repr)


def load(tmp_path, text):
    """The configuration, or None after a check of the error."""
    path = tmp_path / "shop.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    found, error = outcome(lambda: config.load(path), ConfigError)
    if error:
        assert str(error).startswith(str(path))
        assert len(str(error).splitlines()) == 1
    return found


@drawn(50)
@given(line=st.integers(0, len(SHOP.splitlines()) - 1), value=VALUES)
@example(13, "2026-13-45")
@example(1, "[" * 1500)
def test_a_changed_value_is_taken_or_told(tmp_path, line, value):
    lines = SHOP.splitlines()
    key, colon, _ = lines[line].partition(": ")
    lines[line] = f"{key}{colon}{value}"
    load(tmp_path, "\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2026-13-45", "'2026-13-45' is no timestamp; correct it, or put it in quotes if it is text"),
        ("2026-11-27 25:00:00", "'2026-11-27 25:00:00' is no timestamp; correct it"),
        ("0x_", "'0x_' is no int; correct it"),
        ("!!float ''", "'' is no float; correct it"),
        ("!!timestamp a", "'a' is no timestamp; correct it"),
        ("9" * 5000, "'9{80}' is no int; correct it"),
        ("\x01", "unacceptable character #x0001: special characters are not allowed in"),
    ],
)
def test_a_value_that_is_none_of_its_type_is_told_with_its_line(tmp_path, value, reason):
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP.replace("2026-11-27", value))
    line = "" if value == "\x01" else " line 14"
    with pytest.raises(ConfigError, match=rf"shop\.yaml{line}: not valid YAML \({reason}"):
        config.load(path)


@pytest.mark.parametrize(
    ("value", "reason"),
    [("[" * 1500, "it is nested too deeply"), ('"\\UFFFFFFFF"', "an escape in it is no character")],
)
def test_what_the_reader_itself_cannot_bear_is_told(tmp_path, value, reason):
    path = tmp_path / "shop.yaml"
    path.write_text(f"name: {value}")
    with pytest.raises(ConfigError, match=rf"shop\.yaml: not valid YAML \({reason}\)"):
        config.load(path)


@drawn(60)
@given(st.lists(VALUES | st.sampled_from(["\n", "\n  ", ": ", ", ", " "]), max_size=12).map("".join))
def test_any_text_is_told(tmp_path, text):
    assert load(tmp_path, text) is None


@drawn(30)
@given(st.binary(max_size=30))
def test_any_bytes_are_told(tmp_path, content):
    path = tmp_path / "shop.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="shop.yaml"):
        config.load(path)


KEYS = st.text("abcdefgh", min_size=1, max_size=3)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@drawn(60)
@given(TREES)
def test_a_tree_that_is_written_is_read(tree):
    assert loading.parse_yaml(yaml.safe_dump(tree)) == tree


@drawn(40)
@given(st.dictionaries(KEYS, TREES, min_size=1, max_size=3), st.data())
def test_a_key_given_twice_is_named_wherever_it_is(tree, data):
    key = data.draw(st.sampled_from(sorted(tree)))
    depth = data.draw(st.integers(0, 3))
    text = yaml.safe_dump(tree, default_flow_style=True).strip()[1:-1]
    twice = "{" + text + ", " + key + ": 1}"
    for _ in range(depth):
        twice = data.draw(st.sampled_from(["[{}]", "x: {}", "{{y: {}}}"])).format(twice)
        if not twice.startswith(("[", "{")):
            twice = "{" + twice + "}"
    with pytest.raises(yaml.YAMLError, match=f"'{key}' is given twice"):
        loading.parse_yaml(twice)


@drawn(30)
@given(
    epochs=st.integers(1, 10**6),
    rate=st.floats(1e-6, 0.5),
    share=st.floats(0, 0.9),
    ks=st.lists(st.integers(1, 50), min_size=1, max_size=4).map(lambda ks: sorted({10, *ks})),
    end=st.none() | st.datetimes(),
    user=st.text(min_size=1, max_size=6),
)
def test_settings_survive_their_json(tmp_path, epochs, rate, share, ks, end, user):
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP)
    changes = {
        "retrieval.epochs": epochs,
        "retrieval.learning_rate": rate,
        "ranking.dropout": share,
        "quality.ks": ks,
        "split.end": end,
        "events.columns.user_id": user,
    }
    read = config.load(path, changes)
    assert config.Config.model_validate_json(read.to_json()) == read
    assert read.to_json() == config.Config.model_validate_json(read.to_json()).to_json()
    for dotted, value in changes.items():
        found = read
        for key in dotted.split("."):
            found = getattr(found, key)
        assert found == value or math.isclose(found, value)
