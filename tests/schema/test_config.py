"""The configuration: what is read, what is refused, and with which words."""

import copy
import datetime as dt
import re
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from schema import config
from schema.config import loading
from schema.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "name": "small",
    "data": {"root": "data"},
    "events": {"path": "events.csv", "columns": {"user_id": "u", "item_id": "i", "timestamp": "t"}},
    "items": {"path": "items.csv", "item_id": "i", "text": ["title"]},
}


@pytest.fixture
def write(tmp_path):
    def write(tree):
        path = tmp_path / "shop.yaml"
        path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
        return path

    return write


def changed(dotted, value):
    tree = copy.deepcopy(SMALL)
    *parents, leaf = dotted.split(".")
    node = tree
    for key in parents:
        node = node.setdefault(key, {})
    node[leaf] = value
    return tree


def test_what_is_not_given_has_its_default(write):
    read = config.load(write(SMALL))
    assert read.users is None
    assert read.exposures is None
    assert read.split == config.Split(eval_days=28, test_days=28, evaluate_on="test")
    assert read.events.event_weights == {"purchase": 1.0}
    assert read.candidates == config.Candidates()
    assert read.quality.must_beat == ["popularity", "popularity_recent", "personal_frequency"]
    assert read.items.category is None


def without_events(**sections):
    tree = {name: section for name, section in SMALL.items() if name != "events"}
    return copy.deepcopy(tree) | sections


def test_events_may_be_left_out(write):
    assert config.load(write(without_events())).events is None


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"users": {"path": "u.csv", "user_id": "u"}}, "users: means nothing without events"),
        ({"data": {"root": "data", "sample_users": 3}}, "data.sample_users: means nothing without events"),
        ({"text_encoder": {"mode": "lora"}}, "text_encoder.mode: lora: means nothing without events"),
        ({"serving": {"purchase_types": ["buy"]}}, "serving.purchase_types: means nothing without events"),
        (
            {"search": {"enabled": False}},
            "search.enabled: false leaves a shop without events nothing to answer",
        ),
    ],
)
def test_what_only_events_can_give_is_refused_without_them(write, sections, said):
    with pytest.raises(ConfigError, match=said):
        config.load(write(without_events(**sections)))


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "pipeline" / "configs").glob("*.yaml")))
def test_the_shipped_configurations_are_valid(name):
    read = config.load(ROOT / "pipeline" / "configs" / name)
    assert Path(read.schema_dir).is_dir()
    assert read.name == name.removesuffix(".yaml")


def test_overrides_replace_and_add(write):
    read = config.load(
        write(SMALL), {"data.sample_users": 7, "ranking.epochs": 2, "split.end": "2017-05-01T00:00:00"}
    )
    assert read.data.sample_users == 7
    assert read.ranking.epochs == 2
    assert read.split.end == dt.datetime(2017, 5, 1)


@pytest.mark.parametrize(
    ("dotted", "value", "message"),
    [
        ("evnts", {}, "unknown key 'evnts'; remove it or correct its spelling"),
        ("events.columns.usr", "x", r"unknown key 'events\.columns\.usr'"),
        ("retrieval.epochs", "many", r"retrieval\.epochs: .*integer.* \(got 'many'\)"),
        ("retrieval.epochs", 0, r"retrieval\.epochs: .*greater than or equal to 1 \(got '?0'?\)"),
        ("items.text", [], r"items\.text: "),
        ("items.category", "colour", r"items\.category: 'colour' is not one of items\.categorical \[\]"),
        ("split.evaluate_on", "train", r"split\.evaluate_on: .*'eval'"),
        ("name", "Not A Name", "name: "),
        ("data", None, "data: "),
    ],
)
def test_wrong_keys_and_values_are_named_in_one_line(write, dotted, value, message):
    path = write(changed(dotted, value))
    with pytest.raises(ConfigError, match=message) as raised:
        config.load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_missing_key_is_named(write):
    tree = copy.deepcopy(SMALL)
    del tree["events"]["columns"]["item_id"]
    del tree["items"]["text"]
    with pytest.raises(ConfigError) as raised:
        config.load(write(tree))
    assert "key 'events.columns.item_id' is missing; add it" in str(raised.value)
    assert "key 'items.text' is missing; add it" in str(raised.value)


def test_an_unknown_sensitive_attribute_is_refused(write):
    users = {"path": "u.csv", "user_id": "u", "categorical": {"age": "age"}, "sensitive": ["income"]}
    with pytest.raises(ConfigError, match=r"users\.sensitive: 'income' is not one of .*\['age'\]"):
        config.load(write(SMALL | {"users": users}))


def test_the_model_s_limit_lets_through_what_it_is_evaluated_with(write):
    sizes = {"two_tower": 5, "buy_again": 4, "co_purchased": 3, "trending": 2, "new_items": 1}
    tree = SMALL | {"candidates": sizes, "ranking": {"list_size": 8, "eval_list_size": 12}}
    assert config.load(write(tree | {"serving": {"max_candidates": 15}})).serving.max_candidates == 15
    with pytest.raises(ConfigError, match=r"serving.max_candidates: 14 is less than the 15 candidates"):
        config.load(write(tree | {"serving": {"max_candidates": 14}}))
    tree["ranking"]["eval_list_size"] = 20
    with pytest.raises(ConfigError, match=r"serving.max_candidates: 19 is less than the 20 candidates"):
        config.load(write(tree | {"serving": {"max_candidates": 19}}))
    shown = {"max_k": 100}
    for more, needed, of in (
        ({}, 32 * (15 + 4 * 100), "32 requests of `recommend`"),
        ({"eval_list_size": 500, "eval_users": 9}, 32 * 500, "32 lists of 500"),
        ({"eval_list_size": 20, "eval_users": 2000}, 1000 * 20, "1000 lists of ranking.eval_list_size"),
    ):
        tree["ranking"] = {"list_size": 8, "eval_list_size": 12, "eval_users": 90, **more}
        loaded = config.load(write(tree | {"serving": {"max_pairs": needed, **shown}}))
        assert loaded.serving.max_pairs == needed
        said = f"serving.max_pairs: {needed - 1} is less than the {needed} candidates of {of}, "
        with pytest.raises(ConfigError, match=re.escape(said)):
            config.load(write(tree | {"serving": {"max_pairs": needed - 1, **shown}}))
    with pytest.raises(ConfigError, match=r"serving.max_rows: .* greater than or equal to 32"):
        config.load(write(tree | {"serving": {"max_rows": 31}}))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"planned": ["leaflet"]}, r"exposures: planned: 'leaflet' is not one of channels \['mailer'\]"),
        ({"known_ahead": 7}, r"exposures: known_ahead: say in `planned` which channels"),
        ({"planned": ["mailer"], "plan_stores": 3}, r"exposures: plan_stores: 3 stores .*without `store`"),
        ({"compared_within": "kind"}, r"exposures.compared_within: 'kind' is not one of items.categorical"),
        ({"channels": {"front": {"column": "m", "values": []}}}, r"exposures.channels.front"),
    ],
)
def test_what_is_planned_is_a_channel_that_can_be_counted(write, given, message):
    exposures = {"path": "e.csv", "item_id": "i", "time": {"column": "w"}, "channels": {"mailer": "m"}}
    with pytest.raises(ConfigError, match=message):
        config.load(write(SMALL | {"exposures": exposures | given}))


def test_two_stores_make_a_promotion_where_stores_are_told_apart(write):
    exposures = {"path": "e.csv", "item_id": "i", "time": {"column": "w"}, "channels": {"mailer": "m"}}
    for given, stores in (({}, 1), ({"store": "s"}, 2), ({"store": "s", "plan_stores": 1}, 1)):
        assert config.load(write(SMALL | {"exposures": exposures | given})).exposures.least_stores == stores


def test_planned_candidates_need_a_plan(write):
    exposures = {"path": "e.csv", "item_id": "i", "time": {"column": "w"}, "channels": {"mailer": "m"}}
    tree = SMALL | {"candidates": {"planned": 9}}
    for given in ({}, {"exposures": exposures | {"planned": ["mailer"]}}):
        with pytest.raises(ConfigError, match=r"candidates.planned: no promotion is known ahead"):
            config.load(write(tree | given))
    known = exposures | {"planned": ["mailer"], "known_ahead": 7}
    assert config.load(write(tree | {"exposures": known})).candidates.sizes["planned"] == 9


def test_periods_need_an_origin(write):
    exposures = {"path": "e.csv", "item_id": "i", "time": {"column": "w", "unit": "week"}}
    with pytest.raises(ConfigError, match=r"exposures\.time: unit 'week' .*origin"):
        config.load(write(SMALL | {"exposures": exposures}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: [", r"shop\.yaml line \d+: not valid YAML"),
        ("- a\n- b", "expected a mapping"),
        ("", "expected a mapping"),
    ],
)
def test_files_that_are_no_configuration(write, content, message):
    with pytest.raises(ConfigError, match=message):
        config.load(write(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "name: a\nevents: {path: x}\nitems: {}\nevents: {path: y}\n",
            "'events' is given twice, in lines 2 and 4",
        ),
        ("quality:\n  ks: [1]\n  'ks': [2]\n", "'ks' is given twice, in lines 2 and 3"),
        ("a: {b: 1, c: 2, b: 1}\n", "'b' is given twice, in lines 1 and 1"),
        ("a:\n- {b: 1}\n- b: 1\n  c: 2\n  b: 3\n", "'b' is given twice, in lines 3 and 5"),
        ("a: {1: x,\n  1: y}\n", "'1' is given twice, in lines 1 and 2"),
    ],
)
def test_a_key_given_twice_is_refused_with_both_lines(write, content, message):
    with pytest.raises(ConfigError, match=f"shop.yaml: {message}; join the two"):
        config.load(write(content))


def test_keys_of_a_merged_mapping_may_be_given_again():
    text = "one: &one {a: 1, b: 2}\ntwo: &two {<<: *one, a: 3}\nthree: {<<: [*two, *one], b: 4}\n"
    assert loading.parse_yaml(text)["three"] == {"a": 3, "b": 4}
    assert loading.parse_yaml("{a: {b: 1}, c: {b: 1}}") == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("dotted", "value", "message"),
    [
        (
            "events.event_weights",
            {1: 1.0},
            "events.event_weights.1: 1 is a number and should be text; put it in",
        ),
        (
            "exposures.inactive",
            [0],
            "exposures.inactive.0: 0 is a number and should be text; put it in quotes",
        ),
        (
            "exposures.inactive",
            [False],
            "exposures.inactive.0: False is what YAML reads for a word such as yes, no",
        ),
        ("events.default_event_type", 1.5, "events.default_event_type: 1.5 is a number and"),
        ("name", dt.date(2017, 5, 1), "name: 2017-05-01 is a date and should be text; put it in quotes"),
    ],
)
def test_text_without_quotes_that_yaml_takes_for_something_else(write, dotted, value, message):
    with pytest.raises(ConfigError) as raised:
        config.load(write(changed(dotted, value)))
    assert message in str(raised.value)


@pytest.mark.parametrize("there", [False, True])
def test_a_file_that_cannot_be_read(tmp_path, there):
    path = tmp_path / "gone.yaml"
    if there:
        path.mkdir()
    with pytest.raises(ConfigError, match="cannot be read .*; give the path of a YAML configuration"):
        config.load(path)


def test_an_override_below_an_empty_section(write):
    assert config.load(write(changed("ranking", {})), {"ranking.epochs": 3}).ranking.epochs == 3


def test_a_sections_text_changes_only_with_the_section(write):
    one = config.load(write(SMALL))
    other = config.load(write(SMALL), {"ranking.epochs": 9})
    assert one.retrieval.to_json() == other.retrieval.to_json()
    assert one.ranking.to_json() != other.ranking.to_json()
    split = {"test_days": 14, "eval_days": 7}
    texts = {config.Split(**dict(order)).to_json() for order in (split.items(), reversed(split.items()))}
    assert len(texts) == 1  # one text, one cache key


class Part(config.Settings):
    """Whole sections, an optional one, one that a shop may lack, and a smaller one."""

    items: config.Items
    users: config.Users | None
    exposures: config.Exposures | None
    ranking: config.Lists
    beam_args: list[str]


def test_settings_are_what_a_component_sees(write):
    users = {"path": "u.csv", "user_id": "u", "categorical": {"age": "age"}}
    read = config.load(write(SMALL | {"users": users}), {"ranking.list_size": 99})
    part = Part.of(read)
    assert part.items == read.items
    assert part.users == read.users
    assert part.exposures is None
    assert part.beam_args == read.beam_args
    assert type(part.ranking) is config.Lists
    assert part.ranking.list_size == 99
    again = Part.from_json(part.to_json())
    assert again == part
    assert type(again.ranking) is config.Lists
    assert again.to_json() == part.to_json()


@pytest.mark.parametrize(
    ("dotted", "value", "seen"),
    [
        ("ranking.list_size", 99, True),
        ("ranking.windows", 2, True),
        ("ranking.seed", 4, True),
        ("items.path", "other.csv", True),
        ("beam_args", ["--runner=DirectRunner"], True),
        ("ranking.epochs", 9, False),
        ("ranking.tuning.trials", 9, False),
        ("retrieval.epochs", 9, False),
        ("users", {"path": "u.csv", "user_id": "u"}, True),
    ],
)
def test_settings_change_only_with_what_they_see(write, dotted, value, seen):
    one, other = (Part.of(config.load(write(tree))) for tree in (SMALL, changed(dotted, value)))
    assert (one.to_json() != other.to_json()) == seen


def test_settings_refuse_what_is_no_part_of_them():
    with pytest.raises(pydantic.ValidationError, match="epochs"):
        Part.from_json('{"items": {"path": "i", "item_id": "i", "text": ["t"]}, "ranking": {"epochs": 3}}')


def test_a_component_may_see_a_section_without_naming_its_type(write):
    class Whole(config.Settings):
        split: Any

    read = config.load(write(SMALL))
    assert Whole.of(read).split == read.split


def test_sections_do_not_change_and_equal_ones_have_equal_json(write):
    read = config.load(write(SMALL))
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        read.split.eval_days = 3
    columns = {"brand": "b", "colour": "c"}, {"colour": "c", "brand": "b"}
    first, second = (read.items.model_copy(update={"categorical": names}) for names in columns)
    assert first == second
    assert first.to_json() == second.to_json()


def test_a_schema_folder_is_looked_for_here_and_then_in_the_project(write, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    for given, expected in (
        ("mine", "mine"),
        (str(tmp_path / "none"), str(tmp_path / "none")),
        ("schema/complete_journey", str(ROOT / "schema" / "complete_journey")),
        ("gs://shop/schemas", "gs://shop/schemas"),
    ):
        assert config.load(write(SMALL | {"schema_dir": given})).schema_dir == expected


def test_the_encoding_of_files_is_kept_as_it_is_written():
    assert config.Csv(encoding="CP1252").encoding == "CP1252"


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        ({"low": 2.0, "high": 2.0}, "low 2.0 must be below high 2.0"),
        ({"low": 0.0, "high": 2.0, "log": True}, "a span with log: true must begin above 0"),
    ],
)
def test_a_span_that_holds_no_values_is_refused(span, reason):
    with pytest.raises(pydantic.ValidationError, match=reason):
        config.Ranking(tuning={"space": {"dropout": span}})


def test_a_section_is_narrowed_to_a_smaller_one():
    whole = config.Ranking(windows=3, window_days=14, list_size=40, epochs=7)
    assert config.narrow(whole, config.LabelWindows) == config.LabelWindows(windows=3, window_days=14)
    lists = config.narrow(whole, config.Lists)
    assert type(lists) is config.Lists
    assert lists == config.Lists(windows=3, window_days=14, list_size=40)
    assert set(config.Ranking.model_fields) > set(config.Lists.model_fields)


def test_what_the_lists_are_cannot_be_tuned():
    with pytest.raises(pydantic.ValidationError, match="'list_size'. cannot be tuned; .*'learning_rate'"):
        config.Ranking(tuning={"space": {"list_size": [64, 128]}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"serving.max_k": 50}, "quality.ks: 100 is above serving.max_k 50"),
        ({"serving.default_k": 300}, "serving: default_k 300 is above max_k 200"),
        (
            dict.fromkeys(
                (f"candidates.{n}" for n in ("two_tower", "buy_again", "co_purchased", "trending")), 0
            ),
            "candidates: two_tower, buy_again, co_purchased, trending, new_items, planned are all 0",
        ),
        ({"ranking.hidden": [-4]}, "ranking.hidden.0: "),
        ({"ranking.hidden": [32, 0]}, "ranking.hidden.1: "),
        ({"quality.ks": [10, 0, -3]}, "quality.ks.1: "),
        ({"quality.ks": []}, "quality.ks: "),
        ({"quality.max_users": 0}, "quality.max_users: "),
        ({"quality.min_auc": 1.5}, "quality.min_auc: "),
        (
            {"serving.purchase_types": ["order"]},
            "serving.purchase_types: 'order' is not one of events.event_weig",
        ),
        ({"events.default_event_type": "order"}, "events.default_event_type: 'order' has no weight in"),
        ({"split.test_days": 7}, "ranking.window_days: 28 days are more than the 7 of split.test_days"),
        ({"split.eval_days": 27.5, "split.evaluate_on": "eval"}, "more than the 27.5 of split.eval_days"),
        ({"ranking.window_days": 29}, "ranking.window_days: 29 days are more than the 28 of split.test_days"),
        (
            {"events.event_weights": {"purchase": 1.0, "view": 0.2}},
            "events.event_weights: ['purchase', 'view'] are 2 types, and no column says which an event is of",
        ),
        ({"events.event_weights": {}}, "events.default_event_type: 'purchase' has no weight in"),
        ({"events.event_weights": {"purchase": -5.0}}, "events.event_weights.purchase: "),
        ({"events.event_weights": {"purchase": float("nan")}}, "events.event_weights.purchase: "),
        ({"events.event_weights": {"purchase": float("inf")}}, "events.event_weights.purchase: "),
        ({"serving.purchase_types": []}, "serving.purchase_types: "),
        ({"quality.max_regression": float("inf")}, "quality.max_regression: "),
        ({"quality.max_ece": float("inf")}, "quality.max_ece: "),
        ({"quality.min_auc": float("nan")}, "quality.min_auc: "),
        ({"infra_validator.max_p99_ms": float("inf")}, "infra_validator.max_p99_ms: "),
        (
            {"serving.boosts": [{"attribute": "item_id", "values": ["x"], "factor": float("inf")}]},
            "0.factor: ",
        ),
        (
            {"serving.boosts": [{"attribute": "item_id", "values": ["x"], "log_odds": float("nan")}]},
            "log_odds: ",
        ),
        ({"retrieval.temperature": float("nan")}, "retrieval.temperature: "),
        (
            {"ranking.tuning.space": {"dropout": {"low": 0.5, "high": 3}}},
            "ranking: tuning.space.dropout: 3.0 is no ",
        ),
        (
            {"ranking.tuning.space": {"learning_rate": {"low": -1, "high": 5}}},
            "tuning.space.learning_rate: -1.0 is",
        ),
        (
            {"ranking.tuning.space": {"hidden": [[32], []]}},
            "ranking: tuning.space.hidden: [] is no value of it",
        ),
        ({"ranking.tuning.space": {"experts": []}}, "ranking: tuning.space.experts: the list is empty"),
        (
            {"ranking.tuning.space": {"pair_loss_weight": [0.1, float("nan")]}},
            "tuning.space.pair_loss_weight: nan",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(write, changes, message):
    with pytest.raises(ConfigError) as raised:
        config.load(write(SMALL), changes)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("items.categorical", ["item_id", "row", "text", "text_title", "exposure_week", "price_band"]),
        ("users.categorical", ["user_id", "row", "id", "activity"]),
        ("exposures.channels", ["week", "lines", "users"]),
        ("events.context", ["timestamp"]),
    ],
)
def test_names_of_features_that_are_taken_are_refused(write, section, names):
    exposures = {"path": "e.csv", "item_id": "i", "time": {"column": "w"}}
    tree = SMALL | {"users": {"path": "u.csv", "user_id": "u"}, "exposures": exposures}
    for name in names:
        with pytest.raises(ConfigError) as raised:
            config.load(write(tree), {section: {"colour": "c", name: "x"}})
        assert f"{section}: '{name}' is the name of something else (" in str(raised.value)
        assert names[-1] in str(raised.value).partition(" (")[2]  # all that are taken
    config.load(write(tree), {section: {f"{name[0]}_{name}": "x" for name in names}})


@pytest.mark.parametrize(
    "changes",
    [
        {"serving.max_k": 100, "serving.default_k": 100},
        {"candidates.two_tower": 0, "candidates.buy_again": 0, "candidates.co_purchased": 0},
        {"events.event_weights": {"order": 0.5}, "events.default_event_type": "order"},
        {"serving.purchase_types": ["purchase"]},
        {
            "events.columns.event_type": "kind",
            "events.event_weights": {"purchase": 1.0, "view": 0.1, "rent": 0.5},
            "serving.purchase_types": ["rent", "purchase"],
        },
        {"split.test_days": 7, "ranking.window_days": 7},
        {"split.test_days": 7, "split.evaluate_on": "eval"},  # the test window is not read
        {"split.test_days": 7, "split.strategy": "leave_one_out"},
        {"ranking.tuning.space": {"dropout": {"low": 0.0, "high": 0.9}, "hidden": [[1], [8, 4]]}},
    ],
)
def test_settings_at_their_limits_are_taken(write, changes):
    config.load(write(SMALL), changes)


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        ("/data", "a.csv", "/data/a.csv"),
        ("gs://shop/data/", "a.csv", "gs://shop/data/a.csv"),
        ("/data", "s3://other/a.csv", "s3://other/a.csv"),
        ("gs://shop", "s3://other/a.csv", "s3://other/a.csv"),
        ("/data", "/elsewhere/a.csv", "/elsewhere/a.csv"),
    ],
)
def test_paths_are_below_the_root(root, path, expected):
    assert config.Data(root=root).resolve(path) == expected


def test_data_inside_a_package():
    assert config.Data(root="package:yaml/x").resolve("y") == str(Path(yaml.__file__).parent / "x" / "y")
    with pytest.raises(
        ConfigError, match="'no_such_package' .* is not installed; run `pip install no-such-package`"
    ):
        config.Data(root="package:no_such_package/data").resolve("a.csv")


@pytest.mark.parametrize(
    ("dotted", "value", "reason"),
    [
        ("serving.reasons", {"trending": "Hot in {city}"}, "serving.reasons: trending: unknown ['city']"),
        ("serving.reasons", {"bought": "x"}, "unknown key 'serving.reasons.bought'"),
        ("serving.phrases", {"plural": "n+"}, "'n+' is no plural expression of gettext"),
        ("serving.phrases", {"plural": "n>2 ? 2 : n>1"}, "times.forms: the plural expression wants 3 forms"),
        ("serving.phrases", {"weekdays": ["on Monday"]}, "weekdays: give seven"),
        ("serving.time_zone", "Mars", "serving.time_zone: is no time zone of the IANA database"),
        ("serving.boosts", [{"attribute": "brand", "values": ["x"]}], "serving.boosts.0.attribute: 'brand'"),
        ("serving.boosts", [{"attribute": "item_id", "values": []}], "serving.boosts.0.values"),
        ("serving.category_cap", 2, "serving.category_cap: there are no categories"),
        ("serving.diversity", 1.5, "serving.diversity"),
    ],
)
def test_wrong_words_and_boosts_are_refused(write, dotted, value, reason):
    with pytest.raises(ConfigError) as raised:
        config.load(write(changed(dotted, value)))
    assert reason in str(raised.value)


def test_the_serving_section_survives_a_component_s_parameter(write):
    """Numbers as keys become text in JSON."""

    class Words(config.Settings):
        serving: config.Serving

    words = {"days_ago": {"exact": {0: "now", 3: "a while ago"}, "forms": ["{n} day", "{n} days"]}}
    read = config.load(write(changed("serving.phrases", words)))
    again = Words.from_json(Words.of(read).to_json()).serving
    assert again == read.serving
    assert again.phrases.days_ago.exact[3] == "a while ago"


def test_all_sections_travel_as_json():
    class Everything(config.Settings):
        items: config.Items
        users: config.Users | None
        exposures: config.Exposures | None
        events: config.Events
        split: config.Split
        retrieval: config.Retrieval
        quality: config.Quality

    read = config.load(ROOT / "pipeline" / "configs" / "complete_journey.yaml", {"split.end": "2017-05-01"})
    back = Everything.from_json(Everything.of(read).to_json())
    for name in Everything.model_fields:
        assert getattr(back, name) == getattr(read, name)
        assert type(getattr(back, name)) is type(getattr(read, name))
