"""A shop without events, through the same pipeline: to a pushed servable that answers searches."""

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from components.common import registry
from components.common.candidate_lists import tensor
from components.common.search_lists import search_inputs
from schema.config import Config
from tests.shops import tiny_shop

pytestmark = pytest.mark.slow

KINDS = ["bread", "milk", "apple", "cheese", "pear", "roll"]
BRANDS = ["acme", "best", "corner", "daily"]
ONE = "presence { min_count: 1 } value_count { min: 1 max: 1 }"


def write(folder):
    """Seventy-two items of six kinds, judged: the kind is right, the brand alone a little."""
    numbers = range(72)
    makers = [BRANDS[number % 4] for number in numbers]
    titles = [f"{maker} {KINDS[number % 6]} {number}" for number, maker in zip(numbers, makers, strict=True)]
    columns = {"id": [f"i{number:02d}" for number in numbers], "title": titles, "maker": makers}
    items = pd.DataFrame(columns).assign(price=np.arange(72) / 4 + 1)
    items.to_csv(folder / "items.csv", index=False)
    judged = [
        (f"{kind} {brand}", f"i{number:02d}", "E" if number % 6 == place else "S")
        for place, kind in enumerate(KINDS)
        for brand in BRANDS
        for number in range(72)
        if number % 6 == place or BRANDS[number % 4] == brand
    ]
    pd.DataFrame(judged, columns=["query", "item_id", "grade"]).to_csv(folder / "judged.csv", index=False)
    kinds = {"item_id": "BYTES", "text_title": "BYTES", "brand": "BYTES", "item_price": "FLOAT"}
    (folder / "schema").mkdir()
    features = [f'feature {{ name: "{name}" type: {kind} {ONE} }}' for name, kind in kinds.items()]
    (folder / "schema" / "items.pbtxt").write_text("\n".join(features))
    return Config.model_validate(
        {
            "name": "catalogue",
            "data": {"root": str(folder)},
            "items": {
                **{"path": "items.csv", "item_id": "id", "text": ["title"]},
                **{"categorical": {"brand": "maker"}, "brand": "brand", "price": "price"},
            },
            "schema_dir": str(folder / "schema"),
            "text_encoder": {"preset": tiny_shop.bert_preset(2), "sequence_length": 8, "dtype": "float32"},
            "query_encoder": {"mode": "distilled", "layers": 1, "steps": 4, "validate_every": 2},
            "search": {"judgements": {"path": "judged.csv"}},
            "search_training": {"pseudo_queries": 40, "epochs": 4},
            "quality": {"search": {"known_items": 30, "max_typo_loss": 1.0, "min_of_lexical": 0.5}},
            "infra_validator": {"rounds": 1, "max_p99_ms": 60_000},
        }
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The folder of a finished run, and its configuration."""
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    from pipeline.pipeline import create_pipeline

    folder = tmp_path_factory.mktemp("catalogue")
    config = write(folder)
    pipeline = create_pipeline(
        config, str(folder / "artifacts"), str(folder / "metadata.sqlite"), str(folder / "serving")
    )
    LocalDagRunner().run(pipeline)
    return folder, config


def test_it_is_pushed_with_what_it_was_measured_by(shop):
    folder, _ = shop
    (pushed,) = registry.read(str(folder / "serving"))
    assert pushed.record.window is None
    assert pushed.record.learned_until is None
    found = json.loads(
        next(folder.glob("artifacts/SearchEvaluator/evaluation/*/search_metrics.json")).read_text()
    )
    assert found["blessed"]
    assert set(found["sets"]) == {
        "judged",
        "judged_typos",
        "known_item",
        "known_item_typos",
    }
    figures = found["sets"]["judged"]["systems"]
    assert pushed.record.figures["search/judged/ndcg@10"] == figures["search"]["ndcg@10"]
    # a kind and a brand: every right item has the kind's word, and the ranker learns that the brand's is less
    assert figures["search"]["ndcg@10"] > figures["bm25f"]["ndcg@10"] + 0.2
    assert figures["search"]["zero_results"] == 0
    for example in found["examples"]:
        assert example["query"]
        assert all(result["item_text"] for result in example["results"])


def test_the_served_model_finds_by_words_and_price(shop):
    folder, _ = shop
    (pushed,) = registry.read(str(folder / "serving"))
    model = tf.saved_model.load(pushed.folder)
    assert set(model.signatures) == {"search", "suggest", "similar", "embed_text", "embed_item"}
    inputs = search_inputs(np.asarray(["cheese", "chese", "Best  milk 37"], object), (), 12)
    answer = model.signatures["search"](**{name: tensor(value) for name, value in inputs.items()})
    ids = answer["item_id"].numpy().astype(str)
    cheese = {f"i{number:02d}" for number in range(72) if KINDS[number % 6] == "cheese"}
    assert set(ids[0]) == cheese == set(ids[1])
    assert answer["corrected_query"].numpy().astype(str).tolist()[1] == "cheese"
    assert ids[2][0] == "i37"  # a title, as it is
    price = {f"i{number:02d}": number / 4 + 1 for number in range(72)}
    assert answer["price"].numpy()[0].tolist() == [price[item] for item in ids[0]]
