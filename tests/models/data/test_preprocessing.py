"""Transform's cleaning and vocabularies, run on a small table, and requests cleaned alike."""

import numpy as np
import pytest
import tensorflow as tf

from models.data.preprocessing import clean, items_preprocessing_fn
from models.funnel.filters import Categories

CATEGORIES = ["Home\nGarden", " x", "NA", "Toys ", "a\0b", "two  words", "é\u00a0ü", "   ", "Home\nGarden"]


@pytest.fixture(scope="module")
def transformed(tmp_path_factory):
    """(rows, vocabulary of the category) of a catalogue with the worst values."""
    tft = pytest.importorskip("tensorflow_transform")
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    rows = [
        {"item_id": f" {n}", "text_title": f"Title\r\n{n}\0 Ä", "text_more": value, "category": value}
        for n, value in enumerate(CATEGORIES)
    ]
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in rows[0]}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    config = {"text": ["title", "more"], "categorical": ["category"], "channels": []}
    folder = tmp_path_factory.mktemp("transform")
    with tft_beam.Context(temp_dir=str(folder / "temp")):
        (found, _), function = (rows, metadata) | tft_beam.AnalyzeAndTransformDataset(
            lambda inputs: items_preprocessing_fn(inputs, config)
        )
        function | tft_beam.WriteTransformFn(str(folder / "out"))
    names = tft.TFTransformOutput(str(folder / "out")).vocabulary_by_name("category")
    return found, [name.decode() for name in names]


def test_every_value_of_the_catalogue_finds_itself(transformed):
    rows, names = transformed
    assert set(names) == {"Home Garden", "x", "NA", "Toys", "a b", "two words", "é ü"}
    codes = np.array([row["category"] for row in rows], np.int32)
    categories = Categories(codes, ["", *names], np.arange(len(codes)))
    for value, code in zip(CATEGORIES, codes, strict=True):
        wanted = categories.wanted(tf.constant([[value, ""]])).numpy()[0]
        if value.strip():
            assert np.flatnonzero(wanted).tolist() == [code]
            assert code > 0
        else:  # a blank names no category, in a request as in the catalogue
            assert wanted.all()
            assert code == 0


def test_texts_keep_all_their_columns(transformed):
    rows, _ = transformed
    assert rows[0]["text"] == "title 0 ä. home garden.".encode()
    assert rows[4]["text"] == "title 4 ä. a b.".encode()
    assert rows[7]["text"] == "title 7 ä.".encode()
    assert [row["item_id"] for row in rows] == [f" {n}".encode() for n in range(len(rows))]


def test_clean_takes_any_shape():
    found = clean(tf.constant([[" a\t\tb ", "\u2028"], ["\0", "c"]]))
    assert found.numpy().tolist() == [[b"a b", b""], [b"", b"c"]]
