"""benchmarks/serving.py end to end, for fractions of a second each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.serving import overlap_model
from tests.serving.conformance.test_malformed import GOOD
from tests.serving.process import ROOT


@pytest.mark.slow
def test_all_sections_on_a_small_model(exports: dict[int, Path], tmp_path: Path) -> None:
    shutil.copytree(exports[1], tmp_path / "models" / "1")
    asked = [(name, GOOD[name]) for name in ("recommend", "rank", "similar")]
    overlap_model.write_warmup(str(tmp_path / "models" / "1"), asked)
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "benchmarks" / "serving.py")),
            *(f"--model_base_path={tmp_path}/models", "--seconds=0.4", "--swaps=3"),
            *("--concurrency=1,4", "--batch=1,8", "--server_flag=--tensorflow_intra_op_parallelism=1"),
            *(f"--plot={tmp_path}/plot.svg", f"--json={tmp_path}/numbers.json"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "numbers.json").read_text())
    assert len([row for row in rows if row["section"] == "load"]) == 3 * 2 * 2
    sections = {row["section"] for row in rows}
    assert sections == {
        *("load", "overhead", "half load", "swaps", "5 % malformed", "20 slow clients", "model files"),
        "kill -9",
    }
    for row in rows:
        assert row["failed"] == row["wrong"] == 0, row
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
    assert "p99 ms" in done.stdout
    assert ET.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")
