"""Earlier models: the one that a new model must not fall behind, and the one that it starts from."""

from tfx.dsl.components.common import resolver

from components.common import artifacts
from components.common.windows import Windows
from schema.config import Ranking, Split

_CURRENT, _MODEL, _BLESSING, _SESSIONS = "current", "model", "model_blessing", "raw_sessions"


class LatestBlessedOtherModelStrategy(resolver.ResolverStrategy):
    """The latest blessed servable that is not the one at hand.

    TFX's LatestBlessedModelStrategy gives, in a second run with nothing changed, the model of
    that very run: Evaluator and everything after it would see a new input and miss the cache,
    only to compare a model with itself.

    Inputs of the resolver: `current` (the servable of this run), `model` (all servables),
    `model_blessing` (all verdicts).
    """

    def resolve_artifacts(self, store, input_dict):  # noqa: ANN001, ANN201 (TFX's signature)
        """See the base class: the artifacts of each input that are passed on."""
        del store
        current = {artifact.id for artifact in input_dict.get(_CURRENT, [])}
        blessed = _blessed(input_dict)
        others = [
            model for model in input_dict.get(_MODEL, []) if model.id in blessed and model.id not in current
        ]
        if not others:
            return {_CURRENT: [], _MODEL: [], _BLESSING: []}
        last = max(others, key=lambda model: model.id)
        return {_CURRENT: [], _MODEL: [last], _BLESSING: [blessed[last.id]]}


class LatestBlessedEarlierModelStrategy(resolver.ResolverStrategy):
    """The latest blessed servable whose towers learned from events before those of this run only.

    Earlier by the data, not by the clock: a model that has seen more would carry what is to be
    forecast into the towers (a run on the validation window after one on the test window), and one that
    has seen the same is this run's own model when nothing has changed: a second run must find what the
    first one found, or it would train again.

    Inputs of the resolver: `raw_sessions` (the events of this run), `model` (all servables),
    `model_blessing` (all verdicts).

    Args:
      split, ranking: the configuration's sections as JSON: they say where this run's towers stop to
        learn.
    """

    def __init__(self, split: str, ranking: str) -> None:
        self._split, self._ranking = Split.model_validate_json(split), Ranking.model_validate_json(ranking)

    def resolve_artifacts(self, store, input_dict):  # noqa: ANN001, ANN201 (TFX's signature)
        """See the base class: the artifacts of each input that are passed on."""
        del store
        (sessions,) = input_dict[_SESSIONS]
        until = Windows.of(sessions, self._split).label_starts(self._ranking)[0]
        blessed = _blessed(input_dict)
        learned = [
            # a servable of an earlier release does not say what it learned from
            (model.get_int_custom_property(artifacts.LEARNED_UNTIL), model.id, model)
            for model in input_dict.get(_MODEL, [])
            if model.id in blessed and model.has_custom_property(artifacts.LEARNED_UNTIL)
        ]
        earlier = [found for found in learned if found[0] < until]
        return {_SESSIONS: [], _MODEL: [max(earlier)[2]] if earlier else [], _BLESSING: []}


def _blessed(input_dict):  # noqa: ANN001 (TFX's signature)
    """Id of every blessed model -> its blessing."""
    return {
        blessing.get_int_custom_property("current_model_id"): blessing
        for blessing in input_dict.get(_BLESSING, [])
        if blessing.get_int_custom_property("blessed") == 1
    }
