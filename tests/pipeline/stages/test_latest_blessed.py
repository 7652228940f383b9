"""Which earlier model a run starts from: by what it learned from, not by when it was made."""

from tfx.types import standard_artifacts

from components.common import artifacts
from components.common.windows import Windows
from pipeline.stages.latest_blessed import LatestBlessedEarlierModelStrategy
from schema.config import Ranking, Split
from tests.shops.tiny_shop import DAY, START

RANKING = Ranking(window_days=10)


def artifact(kind, number, **properties):
    made = kind()
    made.id = number
    for name, value in properties.items():
        made.set_int_custom_property(name, value)
    return made


def resolve(models, blessed, split=None):
    """Id of the model that a run with training data up to day 100 (days 101 to 130: eval, test) gets."""
    split = split or Split()
    ends = {"train_end": START + 100 * DAY, "eval_end": START + 115 * DAY, "data_end": START + 130 * DAY}
    sessions = artifact(standard_artifacts.Examples, 1, **ends)
    blessings = [
        artifact(standard_artifacts.ModelBlessing, 100 + number, current_model_id=number, blessed=verdict)
        for number, verdict in blessed.items()
    ]
    models = [
        artifact(standard_artifacts.Model, number, **({artifacts.LEARNED_UNTIL: until} if until else {}))
        for number, until in models.items()
    ]
    strategy = LatestBlessedEarlierModelStrategy(split.to_json(), RANKING.to_json())
    found = strategy.resolve_artifacts(
        None, {"raw_sessions": [sessions], "model": models, "model_blessing": blessings}
    )
    return [model.id for model in found["model"]], Windows.of(sessions, split).label_starts(RANKING)[0]


def test_the_latest_of_the_blessed_models_that_learned_from_earlier_events():
    _, until = resolve({}, {})
    assert until == START + 105 * DAY
    models = {11: until - 5 * DAY, 12: until - 9 * DAY, 13: until - DAY, 14: until, 15: until + DAY, 16: None}
    every = dict.fromkeys(models, 1)
    assert resolve(models, every)[0] == [13]
    assert resolve(models, every | {13: 0})[0] == [11]
    assert resolve(models, {12: 1, 14: 1, 16: 1})[0] == [12]
    assert resolve(models, {14: 1, 15: 1, 16: 1})[0] == []
    assert resolve({11: until - DAY, 12: until - DAY}, {11: 1, 12: 1})[0] == [12]


def test_a_run_on_the_validation_window_does_not_start_from_one_on_the_test_window():
    tested, validated = (resolve({}, {}, Split(evaluate_on=name))[1] for name in ("test", "eval"))
    assert resolve({11: tested}, {11: 1}, Split(evaluate_on="eval"))[0] == []
    assert resolve({11: validated}, {11: 1}, Split(evaluate_on="test"))[0] == [11]
