"""The command that proposes schemas, up to where it reads the tables."""

import pytest

from pipeline import infer_schema

CONFIG = """
name: shop
data: {{root: "{root}"}}
events: {{path: events.csv, columns: {{user_id: u, item_id: i, timestamp: t}}}}
items: {{path: items.csv, item_id: i, text: [title]}}
"""


@pytest.mark.parametrize("below", ["", "/deeper/still"])
def test_an_output_that_cannot_be_written_is_one_line(tmp_path, capsys, monkeypatch, below):
    (tmp_path / "events.csv").write_text("u,i,t\n1,2,3\n")
    (tmp_path / "items.csv").write_text("i,title\n2,Tea\n")
    (tmp_path / "shop.yaml").write_text(CONFIG.format(root=tmp_path))
    monkeypatch.setattr(infer_schema, "propose", lambda *_: pytest.fail("the tables were read"))
    output = f"{tmp_path}/events.csv{below}"
    assert infer_schema.main(["--config", str(tmp_path / "shop.yaml"), "--output", output]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: --output {output}: cannot be written (")
    assert error.count("\n") == 1
