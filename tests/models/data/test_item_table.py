"""The catalogue's columns against the rows they were written from."""

import dataclasses

import numpy as np

from models.data.item_table import ItemTable
from tests.shops import tiny_shop


def test_rows_are_the_catalogue_by_id_after_the_reserved_row():
    table, frame = tiny_shop.items(), tiny_shop.item_frame().sort_values("item_id")
    assert len(table) == len(frame) + 1
    assert table.item_id.tolist() == ["", *frame["item_id"]]
    assert table.text.tolist() == ["", *frame["text"]]
    for name, words in (("department", tiny_shop.DEPARTMENTS), ("brand", tiny_shop.BRANDS)):
        assert table.categorical[name].tolist() == [0, *frame[name]]
        assert table.categorical[name].dtype == np.int32
        assert table.vocabularies[name].tolist() == ["", *words]


def test_exposures_stay_with_their_item():
    table, frame = tiny_shop.items(), tiny_shop.item_frame()
    found = {}
    for row, week, display, mailer in zip(
        table.exposure_row,
        table.exposure_week,
        table.exposure["display"],
        table.exposure["mailer"],
        strict=True,
    ):
        found[table.item_id[row], int(week)] = (float(display), float(mailer))
    expected = {
        (row["item_id"], week): (display, mailer)
        for _, row in frame.iterrows()
        for week, display, mailer in zip(
            row["exposure_week"], row["exposure_display"], row["exposure_mailer"], strict=True
        )
    }
    assert found == expected
    assert len(table.exposure_row) == len(expected)


def test_the_table_is_the_same_whatever_the_order_of_the_records(tmp_path):
    """Transform writes its records in another order in every run."""
    frame = tiny_shop.item_frame()
    one = tiny_shop.write_items(frame, tmp_path / "one")
    other = tiny_shop.write_items(frame.sample(frac=1, random_state=2), tmp_path / "other")
    assert len(set(one.exposure_row)) > 5
    assert_equal(one, other)


def test_save_load(tmp_path):
    table = tiny_shop.items()
    table.save(str(tmp_path / "table"))
    back = ItemTable.load(str(tmp_path / "table"))
    assert_equal(table, back)


def assert_equal(one, other):
    for field in dataclasses.fields(ItemTable):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(ours, dict):
            assert ours.keys() == theirs.keys()
        else:
            ours, theirs = {"": ours}, {"": theirs}
        for name, values in ours.items():
            assert values.dtype == theirs[name].dtype
            np.testing.assert_array_equal(values, theirs[name])
