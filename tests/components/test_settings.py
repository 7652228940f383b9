"""What each component obeys: what re-runs it, and what does not."""

import importlib
import json
import subprocess
import sys

import pytest

from schema.config import LabelWindows, Lists, load

COMPONENTS = [
    "catalog_example_gen",
    "event_example_gen",
    "text_encoder_trainer",
    "retrieval_trainer",
    "candidate_index",
    "candidate_sampler",
    "ranking_tuner",
    "ranking_trainer",
    "servable_builder",
    "funnel_evaluator",
    "infra_validator",
    "query_encoder_trainer",
    "search_trainer",
    "search_evaluator",
]
SHOP = "pipeline/configs/complete_journey.yaml"
RETRIEVER = {"candidate_sampler", "ranking_tuner", "ranking_trainer", "servable_builder"}
MODELS = RETRIEVER | {"retrieval_trainer", "candidate_index"}
SEARCH = {"search_trainer", "search_evaluator"}
EVENTS = RETRIEVER | {"retrieval_trainer", "funnel_evaluator"}


def settings(name):
    return importlib.import_module(f"components.{name}.settings").Settings


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("config", [SHOP, "pipeline/configs/movielens_100k.yaml"])
def test_settings_are_read_back_from_their_text(name, config):
    one = settings(name).of(load(config))
    text = one.to_json()
    assert settings(name).from_json(text) == one
    assert settings(name).from_json(text).to_json() == text


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"data.sample_users": 7}, {"event_example_gen"}),
        ({"split.evaluate_on": "eval"}, MODELS | SEARCH | {"text_encoder_trainer", "funnel_evaluator"}),
        (
            {"events.min_quantity": 2},
            MODELS | SEARCH | {"event_example_gen", "funnel_evaluator"},
        ),
        ({"items.brand": None}, MODELS | SEARCH | {"text_encoder_trainer", "query_encoder_trainer"}),
        ({"users.sensitive": []}, EVENTS | {"search_trainer"}),
        (
            {"exposures.inactive": ["0", "X"]},
            RETRIEVER | {"catalog_example_gen", "candidate_index", "search_trainer"},
        ),
        ({"text_encoder.steps": 3}, {"text_encoder_trainer", "query_encoder_trainer"}),
        ({"retrieval.epochs": 9}, RETRIEVER | {"retrieval_trainer", "search_trainer"}),
        ({"candidates.trending": 9}, RETRIEVER | SEARCH | {"candidate_index", "funnel_evaluator"}),
        ({"candidates.collaborative.rank": 9}, MODELS | SEARCH | {"funnel_evaluator"}),
        ({"ranking.windows": 7}, MODELS | {"text_encoder_trainer", "event_example_gen", "search_trainer"}),
        ({"search.k1": 9.0}, SEARCH | {"servable_builder", "query_encoder_trainer"}),
        ({"query_encoder.steps": 9}, {"query_encoder_trainer"}),
        ({"search_training.epochs": 9}, SEARCH | {"query_encoder_trainer"}),
        ({"quality.search.known_items": 9}, SEARCH | {"funnel_evaluator"}),
        ({"ranking.epochs": 9}, RETRIEVER - {"candidate_sampler"}),
        ({"ranking.list_size": 99}, RETRIEVER),
        ({"serving.default_k": 9}, {"servable_builder"}),
        ({"quality.min_index_recall": 0.9}, {"candidate_index", "funnel_evaluator"}),
        ({"quality.item_slices": ["category"]}, {"candidate_sampler", "funnel_evaluator"}),
        ({"quality.max_ece": 0.9}, {"funnel_evaluator"}),
        ({"infra_validator.max_p99_ms": 9}, {"infra_validator"}),
        ({"kubeflow.retries": 9}, set()),
    ],
)
def test_a_setting_changes_the_text_of_those_that_obey_it(changed, expected):
    learns = {"text_encoder.mode": "lora"}  # from events, which a frozen encoder does not
    plain, other = load(SHOP, learns), load(SHOP, learns | changed)
    found = {n for n in COMPONENTS if settings(n).of(plain).to_json() != settings(n).of(other).to_json()}
    assert found == expected


def test_the_sampler_sees_of_the_ranker_what_its_lists_are():
    sections = json.loads(settings("candidate_sampler").of(load(SHOP)).to_json())
    assert set(sections["ranking"]) == set(Lists.model_fields)
    assert set(sections["quality"]) == {"item_slices"}


def test_a_frozen_encoder_does_not_see_the_windows():
    frozen = settings("text_encoder_trainer").of(load(SHOP, {"text_encoder.mode": "frozen"}))
    assert set(json.loads(frozen.to_json())) == {"items", "text_encoder"}
    tuned = settings("text_encoder_trainer").of(load(SHOP, {"text_encoder.mode": "lora"}))
    assert set(json.loads(tuned.to_json())) == {"items", "text_encoder", "split", "ranking"}
    assert set(json.loads(tuned.to_json())["ranking"]) == set(LabelWindows.model_fields)


def test_reading_settings_loads_neither_tensorflow_nor_tfx():
    imports = "; ".join(f"import components.{name}.settings" for name in COMPONENTS)
    check = "import sys; print({'tensorflow', 'tfx', 'apache_beam'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}; {check}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
