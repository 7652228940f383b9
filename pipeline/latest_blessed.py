"""The model that a new one must not fall behind."""

from tfx.dsl.components.common import resolver
from tfx.types import standard_artifacts

_CURRENT, _MODEL, _BLESSING = "current", "model", "model_blessing"


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
        blessed = {
            blessing.get_int_custom_property("current_model_id"): blessing
            for blessing in input_dict.get(_BLESSING, [])
            if blessing.get_int_custom_property("blessed") == 1
        }
        for model in sorted(input_dict.get(_MODEL, []), key=lambda artifact: artifact.id, reverse=True):
            if (
                isinstance(model, standard_artifacts.Model)
                and model.id in blessed
                and model.id not in current
            ):
                return {_CURRENT: [], _MODEL: [model], _BLESSING: [blessed[model.id]]}
        return {_CURRENT: [], _MODEL: [], _BLESSING: []}
