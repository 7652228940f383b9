"""The tiny shop's funnel under other settings, not exported."""

import functools

from components.common import artifacts
from models.funnel.servable import Funnel
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, text

PLAIN = {"diversity": 0.0, "drop_bought_days": 0.0}
HISTORY = [[("100", 40.0), ("103", 12.5), ("101", 3.0), ("102", 0.5)], [("104", 5.0)], []]
USERS = ["u01", "u02", "nobody"]


def make(**serving):
    """The funnel with other keys of `serving`. It is one for all tests: they must not change it."""
    section = type(CONFIG.serving).model_validate(CONFIG.serving.model_dump() | serving)
    return _made(section.model_dump_json())


@functools.cache
def _made(serving):
    built = tiny_shop.built()
    section = type(CONFIG.serving).model_validate_json(serving)
    ranker = tiny_shop.load(artifacts.model_folder(built.ranking))
    config = CONFIG.model_copy(update={"serving": section})
    return Funnel(built.factory.at(CUTOFF), ranker, None, None, tiny_shop.items(), config)


def answer(model, inputs):
    return {name: text(value) for name, value in model.recommend(inputs).items()}
