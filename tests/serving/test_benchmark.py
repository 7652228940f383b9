"""benchmarks/serving.py end to end, for fractions of a second each."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from serving.model_server.core import servable, warmup
from tests.serving import overlap_model
from tests.serving.model_server.conformance.test_malformed import GOOD
from tests.serving.process import ROOT


@pytest.mark.slow
def test_all_sections_on_a_small_model(exports: dict[int, Path], tmp_path: Path) -> None:
    shutil.copytree(exports[1], tmp_path / "models" / "1")
    asked = [(name, GOOD[name]) for name in ("recommend", "rank", "similar")]
    overlap_model.write_warmup(str(tmp_path / "models" / "1"), asked)
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "benchmarks" / "serving.py")),
            *(f"--model_base_path={tmp_path}/models", "--seconds=0.4", "--swaps=3", "--memory_seconds=2"),
            *("--concurrency=1,4", "--batch=1,8", "--hour_seconds=8", "--swap_seconds=2"),
            "--only=load,overhead,half,batching,swaps,hostile,malformed,slow,files,kill,memory,hour",
            *(f"--plot={tmp_path}/plot.svg", f"--json={tmp_path}/numbers.json"),
        ],
        capture_output=True,
        text=True,
        timeout=1800,  # ends a run that hangs; a busy machine takes minutes
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "numbers.json").read_text())
    assert len([row for row in rows if row["section"] == "load"]) == 3 * 2 * 2
    assert list(dict.fromkeys(row["section"] for row in rows)) == [
        *("load", "overhead", "half load", "batching off", "batching on", "steady", "swaps", "hostile"),
        *("5% malformed", "90% malformed", "slow clients", "version deleted", "version cut short"),
        *("disk full", "model folder deleted", "log's disk full", "kill -9", "memory", "hour"),
    ]
    for row in rows:
        assert row["failed"] == row["wrong"] == 0, row
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
        assert 0 <= row["stolen"] + row["others"] <= 1
    assert "p99 ms" in done.stdout
    bars = done.stdout.partition("to reach")[2]
    assert re.search(r"failed or wrong over 3 swaps .* 0 of \d+ \(bar 0; \d+% stolen, .*\) +reached", bars)
    assert re.search(r"malformed requests refused wrongly .* 0 of \d{3,} .*reached", bars)
    assert re.search(r"most memory of a request below 1 MB .* \d+ MB, .* \(bar 256 MB", bars)
    assert re.search(r"longest time of a request below 1 MB .* \d+\.\d\d s, .* \(bar 2 s", bars)
    assert re.search(r"wrong answers in \d+ minutes .* 0 of \d+ .*reached", bars)
    assert re.search(r"memory's growth between swaps .* MB/h \(bar 20 MB/h", bars)
    assert "a retrying client is answered by version" in done.stdout
    assert ET.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")


@pytest.mark.slow
def test_a_synthetic_servable_answers_its_warm_up(tmp_path: Path) -> None:
    """In a process of its own, as the benchmark builds it: it sets Keras up and seeds everything."""
    program = ROOT / "benchmarks" / "synthetic_servable.py"
    done = subprocess.run(
        [sys.executable, str(program), "300", str(tmp_path / "models")],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("8 signatures, 300 candidates, ")
    loaded = servable.load(str(tmp_path / "models" / "1"), 1)
    assert warmup.warm_up(loaded) == 32
