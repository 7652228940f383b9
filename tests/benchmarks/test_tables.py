import json

import pytest

from benchmarks import tables

TABLE = {
    "title": "two systems",
    "columns": ["", "NDCG@10"],
    "rows": [["ours", ".5"], ["theirs", ".4"]],
    "commands": ["make benchmark-funnel"],
    "measured": "2026-11",
}


def test_a_table_is_written_between_its_marks_and_nothing_else_changes():
    document = "before\n<!-- table: two -->\nold figures\n<!-- end -->\nafter\n"
    filled = tables.fill(document, {"two": TABLE})
    assert filled.startswith("before\n<!-- table: two -->\n|  | NDCG@10 |\n| --- | --- |\n| ours | .5 |\n")
    assert filled.endswith("`make benchmark-funnel`.\n<!-- end -->\nafter\n")
    assert "old figures" not in filled
    assert tables.fill(filled, {"two": TABLE}) == filled


def test_an_unknown_table_is_an_error():
    with pytest.raises(KeyError, match="other"):
        tables.fill("<!-- table: other -->\n<!-- end -->", {"two": TABLE})


def test_the_document_shows_the_figures_of_the_latest_release():
    results = json.loads(tables.latest().read_text(encoding="utf-8"))["tables"]
    text = tables.DOCUMENT.read_text(encoding="utf-8")
    assert tables.fill(text, results) == text
    assert text.count("<!-- table: ") == len(results)


def test_every_row_has_a_cell_for_every_column():
    for name, table in json.loads(tables.latest().read_text(encoding="utf-8"))["tables"].items():
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}, name
        assert table["commands"], name


def test_releases_are_compared_as_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="no results"):
        tables.latest()
    for release in ("0.9.0", "0.10.0"):
        (tmp_path / f"{release}.json").write_text("{}")
    assert tables.latest().stem == "0.10.0"
