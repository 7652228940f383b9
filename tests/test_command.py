"""The command `shelfwise`: what it starts, with which name, and what it says when it cannot."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import shelfwise
from schema.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_lists_every_command(capsys, arguments):
    assert shelfwise.main(arguments) == (0 if arguments else 1)
    out, err = capsys.readouterr()
    shown, nothing = (out, err) if arguments else (err, out)
    assert nothing == ""
    assert re.findall(r"(?m)^  ([a-z-]+)(?: NAME)?  ", shown) == [*shelfwise.COMMANDS, "bench"]


@pytest.mark.parametrize("name", shelfwise.COMMANDS)
def test_a_command_is_what_python_m_runs_and_calls_itself_by_its_name(capsys, name):
    with pytest.raises(SystemExit) as ended:
        shelfwise.main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: shelfwise {name} ")


@pytest.mark.parametrize(
    ("name", "other", "said"),
    [
        ("run", ["--config", "no/such.yaml"], "error: no/such.yaml: cannot be read"),
        ("compile", ["--config", "no/such.yaml"], "error: no/such.yaml: cannot be read"),
        ("schema", ["--config", "no/such.yaml"], "error: no/such.yaml: cannot be read"),
        ("report", ["--run", "no/such/run"], "error: no/such/run"),
        ("runs", ["--runs-dir", "no/such"], "error: no/such: no such folder"),
        ("compare", ["a", "b", "--runs-dir", "no/such"], "error: no/such: no such folder"),
        ("board", ["--run", "no/such"], "error: no/such/tensorboard: no training curves"),
        ("ask", ["recommend", "--address", "nowhere"], "address: 'nowhere' is not host:port"),
        ("bnch", [], "error: unknown command 'bnch'; known are init, run, "),
        ("bench", ["indx"], "error: bench: there is no benchmark 'indx'; known are "),
    ],
)
def test_mistakes_are_one_line_and_status_1(capsys, name, other, said):
    assert shelfwise.main([name, *other]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_benchmarks_of_the_checkout_are_listed(capsys):
    assert shelfwise.main(["bench"]) == 0
    listed = capsys.readouterr().out.split()
    assert {"funnel", "index", "retrieval", "serving"} <= set(listed)
    assert not {"run_models", "serving_load", "synthetic_servable", "baselines"} & set(listed)
    assert shelfwise.main(["bench", "--help"]) == 0
    assert ", ".join(listed) in capsys.readouterr().out


def test_a_benchmark_gets_its_arguments_and_its_name(monkeypatch, tmp_path, capsys):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "shared.py").write_text("X = 1\n")
    (tmp_path / "benchmarks" / "spin.py").write_text(
        "import argparse\n"
        "def main(argv=None):\n"
        "    parser = argparse.ArgumentParser()\n"
        "    parser.add_argument('--turns', type=int)\n"
        "    return parser.parse_args(argv).turns\n"
    )
    monkeypatch.setattr(shelfwise, "_BENCHMARKS", tmp_path / "benchmarks")
    monkeypatch.setattr(sys, "argv", ["shelfwise"])
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    try:
        assert shelfwise.main(["bench"]) == 0
        assert capsys.readouterr().out == "spin\n"
        assert shelfwise.main(["bench", "spin", "--turns", "3"]) == 3
        with pytest.raises(SystemExit):
            shelfwise.main(["bench", "spin", "--help"])
        assert capsys.readouterr().out.startswith("usage: shelfwise bench spin [-h] [--turns TURNS]")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
            del sys.modules[name]


def test_the_installed_package_has_no_benchmarks(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(shelfwise, "_BENCHMARKS", tmp_path / "benchmarks")
    assert shelfwise.main(["bench", "index"]) == 1
    assert "a checkout has it, the installed package does not" in capsys.readouterr().err


def test_a_user_s_mistake_inside_a_command_is_one_line(monkeypatch, capsys):
    def wrong(arguments, *, prog):
        raise UserError(f"{prog}: {arguments} is wrong")

    monkeypatch.setattr("schema.config.json_schema.main", wrong)
    assert shelfwise.main(["config-schema", "x"]) == 1
    assert capsys.readouterr().err == "error: shelfwise config-schema: ['x'] is wrong\n"


def test_help_imports_nothing_heavy():
    """So it is quick: what takes long is imported when a command is asked for."""
    code = (
        "import sys, shelfwise\n"
        "status = shelfwise.main(['--help'])\n"
        "heavy = {'numpy', 'pydantic', 'tensorflow', 'yaml', 'pipeline', 'serving'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=1800
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: shelfwise COMMAND")


def test_the_command_is_a_console_script_and_a_module():
    assert (
        'entry_points={"console_scripts": ["shelfwise = shelfwise:main"]}' in (ROOT / "setup.py").read_text()
    )
    done = subprocess.run(
        [sys.executable, "-m", "shelfwise", "lunch"], cwd=ROOT, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: unknown command 'lunch'; known are init, run, ")
