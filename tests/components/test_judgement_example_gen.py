"""Judgements: read, checked, divided by query."""

import numpy as np
import pandas as pd
import pytest

from components.common import search_inputs
from components.common.queries import SETS, normalised, place_of
from components.judgement_example_gen import executor
from components.judgement_example_gen.settings import Settings
from schema.config import Config
from schema.errors import DataError

IDS = np.asarray([f"p{number}" for number in range(20)], object)


def settings(folder, **judgements):
    shop = {
        "name": "tiny",
        "data": {"root": str(folder)},
        "items": {"path": "items.csv", "item_id": "id", "text": ["title"]},
        "search": {"judgements": {"path": "judged.csv", **judgements}},
    }
    return Settings.of(Config.model_validate(shop))


def write(folder, rows):
    frame = pd.DataFrame(rows, columns=["query", "item_id", "grade"])
    frame.to_csv(folder / "judged.csv", index=False)
    return frame


def rows(count=60, seed=0):
    rng = np.random.default_rng(seed)
    out = []
    for number in range(count):
        items = rng.choice(IDS, 4, replace=False)
        out += [(f"query {number}", item, grade) for item, grade in zip(items, "ESCI", strict=True)]
    return out


def test_every_query_is_in_one_split_with_all_its_gains(tmp_path):
    frame = write(tmp_path, rows())
    summary = executor.run(settings(tmp_path), IDS, str(tmp_path / "out"))
    assert summary.startswith("60 queries (")
    assert summary.endswith("240 judgements")
    gains = settings(tmp_path).judgements.gains
    wanted = {
        query: {(row.item_id, gains[row.grade]) for row in group.itertuples()}
        for query, group in frame.groupby("query")
    }
    seen = {}
    for name in SETS:
        part = search_inputs.read_judgements(str(tmp_path / "out"), name, IDS)
        assert len(part) > 0
        for query, text in enumerate(part.text):
            mine = part.query == query
            seen[text] = {
                (IDS[item], round(float(gain), 6))
                for item, gain in zip(part.position[mine], part.gain[mine], strict=True)
            }
        place = place_of(part.text)
        low, high = {"test": (0, 0.2), "eval": (0.2, 0.4), "train": (0.4, 1)}[name]
        assert ((place >= low) & (place < high)).all()
    assert seen == wanted


def test_spellings_of_a_query_are_one_and_lost_items_are_counted(tmp_path):
    write(tmp_path, [("Oat  Milk", "p1", "E"), ("oat milk", "p2", "S"), ("oat milk", "gone", "E")])
    summary = executor.run(settings(tmp_path), IDS, str(tmp_path / "out"))
    assert summary.startswith("1 queries")
    assert summary.endswith("1 judgements of items that the catalogue lacks")
    assert normalised(" Oat\tMILK ") == "oat milk"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([("milk", "p1", "Z")], r"'Z' in row 1; give it a gain in search.judgements.gains"),
        ([("milk", "p1", "E"), ("Milk", "p1", "S")], "'p1' is judged twice for 'milk', again in row 2"),
        ([("milk", "gone", "E")], "1 of 1 judgements are of items that the catalogue lacks, such as 'gone'"),
        ([("milk", "p1", "I")], "no query has an item with a gain above 0"),
        ([("  ", "p1", "E")], "is blank in row 1"),
        ([("milk", None, "E")], r"'item_id' \(search.judgements.item_id\) has no value"),
    ],
)
def test_faults_of_the_table_are_named(tmp_path, table, said):
    write(tmp_path, table)
    with pytest.raises(DataError, match=said):
        executor.run(settings(tmp_path), IDS, str(tmp_path / "out"))


def test_another_scale_of_grades(tmp_path):
    pd.DataFrame({"q": ["milk"], "id": ["p3"], "stars": [4]}).to_csv(tmp_path / "judged.csv", index=False)
    own = settings(tmp_path, query="q", item_id="id", grade="stars", gains={"4": 0.5})
    executor.run(own, IDS, str(tmp_path / "out"))
    parts = [search_inputs.read_judgements(str(tmp_path / "out"), name, IDS) for name in SETS]
    assert [gain for part in parts for gain in part.gain.tolist()] == [0.5]
