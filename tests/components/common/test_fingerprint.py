"""The cache keys change with the data and the code, and with nothing else."""

import contextlib
import functools
import json
import modulefinder
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from components.common import fingerprint
from components.common.fingerprint import CONTRACTS, Sources, code_version, data_version
from schema.errors import DataError

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("components", "kubeflow", "models", "pipeline", "schema", "serving")
# What has a key of its own code: every component, and Transform's preprocessing_fn.
KEYED = [f"components.{path.parent.name}" for path in sorted((ROOT / "components").glob("*/component.py"))]
KEYED += ["models.data.preprocessing"]
# Started as a process: no import shows it.
STARTED = {"components.infra_validator": ["serving.model_server.__main__"]}


def test_data_version_changes_with_size_and_time(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("a\n")
    os.utime(path, (1, 1))
    first = data_version([str(path)])
    assert data_version([str(path)]) == first
    assert data_version({"events.path": str(path)}) == first
    os.utime(path, (2, 2))
    second = data_version([str(path)])
    path.write_text("ab\n")
    os.utime(path, (2, 2))
    assert len({first, second, data_version([str(path)])}) == 3


def test_data_version_sees_new_files_of_a_pattern(tmp_path):
    (tmp_path / "e-1.csv").write_text("a\n")
    first = data_version([str(tmp_path / "e-*.csv")])
    (tmp_path / "e-2.csv").write_text("a\n")
    assert data_version([str(tmp_path / "e-*.csv")]) != first


def test_data_version_names_key_of_missing_file():
    with pytest.raises(
        DataError, match=r"^/nowhere/items.csv: no such file \(items.path\); correct the path or data"
    ):
        data_version({"items.path": "/nowhere/items.csv"})


def write(root, **files):
    """Modules by dotted name with `__` for the dots; parents get an empty `__init__.py`."""
    for name, text in files.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(root).parents[:-1]:
            (root / folder / "__init__.py").touch()
        path.write_text(text)
    return Sources(root)


def test_an_import_counts_wherever_it_stands_and_however_it_is_written(tmp_path):
    sources = write(
        tmp_path,
        components__work__executor=(
            "raise RuntimeError('imported')\n"
            "import models.plain as other\n"
            "from models import member\n"
            "from . import neighbour\n"
            "from ..shared.helper import function\n"
            "def run():\n"
            "    from models.lazy import late\n"
            "    if late: start([sys.executable, '-m', 'serving.program'])\n"
        ),
        components__work__neighbour="",
        components__work__unused_but_in_the_package="",
        components__shared__helper="",
        models__plain="import models.indirect",
        models__indirect="import models.plain",
        models__member="",
        models__lazy="import numpy, components_of_others",
        models__unused="",
        serving__program__worker="",
    )
    (tmp_path / "serving/program/__main__.py").write_text("from serving.program import worker\n")
    assert sources.closure("components.work") == {
        *("components", "components.shared", "components.shared.helper", "components.work"),
        *("components.work.executor", "components.work.neighbour"),
        *("components.work.unused_but_in_the_package",),
        *("models", "models.plain", "models.indirect", "models.member", "models.lazy"),
        *("serving", "serving.program", "serving.program.__main__", "serving.program.worker"),
    }
    assert sources.closure("models.plain") == {"models", "models.plain", "models.indirect"}


def test_what_only_type_checkers_see_and_contracts_do_not_count(tmp_path):
    sources = write(
        tmp_path,
        components__work="if TYPE_CHECKING:\n import models.typed\nelse:\n import models.real\n"
        "if typing.TYPE_CHECKING:\n import models.typed\nfrom schema.config import Config\n",
        models__typed="",
        models__real="",
        schema__config__ranking="",
        schema__config__behind="",
    )
    (tmp_path / "schema/config/__init__.py").write_text("import schema.config.ranking\n")
    assert sources.closure("components.work") == {
        *("components", "components.work", "models", "models.real", "schema"),
    }


def test_code_version_follows_the_source_and_not_the_place(tmp_path):
    files = {"components__work": "import models.a", "models__a": "x = 1\n", "models__b": "y = 1\n"}
    first = write(tmp_path / "one", **files)
    version = first.version("components.work")
    assert re.fullmatch("[0-9a-f]{16}", version)
    assert write(tmp_path / "two", **files).version("components.work") == version
    write(tmp_path / "one", models__b="y = 22\n")
    assert first.version("components.work") == version
    write(tmp_path / "one", models__a="x = 22\n")
    changed = first.version("components.work")
    (tmp_path / "one" / "models" / "__init__.py").write_text("z = 1\n")
    assert len({version, changed, first.version("components.work")}) == 3


@pytest.mark.parametrize("name", ["components.nothing", "json"])
def test_code_version_of_unknown_module(name):
    with pytest.raises(ModuleNotFoundError, match=f"code_version: '{name}'"):
        code_version(name)


@pytest.mark.parametrize("library", ["tfx", "tensorflow-text", "tf-keras", "keras", "keras-hub"])
def test_another_release_of_a_library_changes_every_key(library, tmp_path, monkeypatch):
    before = [code_version(name) for name in KEYED[:3]]
    metadata = tmp_path / f"{library.replace('-', '_')}-99.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {library}\nVersion: 99.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert fingerprint.library_versions()[library] == "99.0"
    assert not {Sources(ROOT).version(name) for name in KEYED[:3]} & set(before)


def test_tensorflow_counts_under_the_name_of_its_build():
    assert {"tensorflow", "tensorflow-cpu"} & set(fingerprint.library_versions())


def modules(root):
    """Dotted name -> file of every first-party module."""
    paths = [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    paths.append(root / "shelfwise_env.py")
    names = {path: path.relative_to(root).with_suffix("").parts for path in paths}
    return {".".join(p[:-1] if p[-1] == "__init__" else p): path for path, p in names.items()}


@functools.cache
def named_by_bytecode(module):
    """First-party modules that one module's compiled code imports: not by the syntax tree."""
    known = modules(ROOT)
    scan = modulefinder.ModuleFinder().scan_opcodes
    # what is imported for type checkers alone is no code: the compiler leaves `if 0` out
    source = known[module].read_text().replace("if TYPE_CHECKING:", "if 0:")
    codes, named = [compile(source, module, "exec")], set()
    while codes:
        code = codes.pop()
        codes += [each for each in code.co_consts if isinstance(each, types.CodeType)]
        for kind, what in scan(code):
            if kind in ("absolute_import", "relative_import"):
                *level, members, name = what
                assert level in ([], [0]), f"{module}: a relative import"
                named |= {name, *(f"{name}.{member}" for member in members or ())}
    return named & set(known)


@functools.cache
def reached_by_bytecode(name):
    """What counts for a component."""
    waiting = [name, *(m for m in modules(ROOT) if m.startswith(f"{name}.")), *STARTED.get(name, ())]
    found = set()
    while waiting:
        module = waiting.pop()
        if module and module not in found:
            found.add(module)
            waiting.append(module.rpartition(".")[0])
            if not is_contract(module):
                waiting += named_by_bytecode(module)
    return {module for module in found if not is_contract(module)}


def is_contract(module):
    return any(module == cut or module.startswith(f"{cut}.") for cut in CONTRACTS)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the first-party sources, to change."""
    root = tmp_path_factory.mktemp("checkout")
    for path in modules(ROOT).values():
        copy = root / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return root


def test_a_changed_module_reruns_the_components_that_import_it_and_no_other(checkout):
    sources = Sources(checkout)
    before = {name: sources.version(name) for name in KEYED}
    assert before == {name: code_version(name) for name in KEYED}
    reached = {name: reached_by_bytecode(name) for name in KEYED}
    for module, path in modules(checkout).items():
        with changed([path]):
            same = {
                name for name in KEYED if module in reached[name] and sources.version(name) == before[name]
            }
        assert same == set(), module
    for name in KEYED:
        others = {path for module, path in modules(checkout).items() if module not in reached[name]}
        with changed(others):
            assert sources.version(name) == before[name]
    assert before == {name: sources.version(name) for name in KEYED}


@contextlib.contextmanager
def changed(paths):
    """Other text in these files, which they lose again."""
    texts = {path: path.read_bytes() for path in paths}
    for path, text in texts.items():
        path.write_bytes(text + b"\n# changed\n")
    yield
    for path, text in texts.items():
        path.write_bytes(text)


def test_what_reruns_by_example(checkout):
    """The table that a person would write down."""
    sources = Sources(checkout)
    closures = {name.removeprefix("components."): sources.closure(name) for name in KEYED}
    rerun = {
        module: {name for name, closure in closures.items() if module in closure}
        for module in modules(checkout)
    }
    assert rerun["components.common.tables"] == {
        "catalog_example_gen",
        "data_version",  # whose fingerprint is of the files that tables are read from
        "event_example_gen",
        "judgement_example_gen",
    }
    assert rerun["serving.model_server.process.main"] == {"infra_validator"}
    assert rerun["serving.model_server.http_api.rest"] == {"infra_validator"}
    assert rerun["models.funnel.servable"] == {"servable_builder"}
    assert {"ranking_trainer", "ranking_tuner"} <= rerun["models.ranking.ranker"]
    assert not {"retrieval_trainer", "candidate_index"} & rerun["models.ranking.ranker"]
    assert {"retrieval_trainer", "candidate_index", "servable_builder"} <= rerun["models.retrieval.towers"]
    assert {"models.data.preprocessing", "evaluator", "ranking_trainer"} <= rerun["schema.names"]
    # these know no feature by name
    assert not {"schema_importer", "data_quality_gate"} & rerun["schema.names"]
    nothing = [m for m in rerun if m.split(".")[0] in ("pipeline", "kubeflow")] + list(CONTRACTS)
    assert {module: rerun[module] for module in nothing if rerun[module]} == {}


_LOADED = """
import json, os, sys
import shelfwise_env
import numpy, tensorflow, tensorflow_model_analysis, tensorflow_text, tensorflow_recommenders, tfx.v1
found = {}
for name in sys.argv[1:]:
    reader, writer = os.pipe()
    if os.fork() == 0:  # each from the same state: TensorFlow is there, and nothing of ours
        __import__(name)
        os.write(writer, json.dumps(sorted(sys.modules)).encode() + b"\\n")
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        found[name] = json.loads(pipe.read())
print(json.dumps(found))
"""


@pytest.mark.slow
def test_everything_that_a_component_loads_is_in_its_key_or_behind_a_contract():
    names = [f"{name}.component" for name in KEYED if name.startswith("components.")]
    command = [sys.executable, "-c", _LOADED, *names, *STARTED["components.infra_validator"]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    loaded = {name: set(found) & set(modules(ROOT)) for name, found in json.loads(done.stdout).items()}
    # what a contract itself imports is behind it, unless a component imports that too
    behind, waiting = set(), [module for module in modules(ROOT) if is_contract(module)]
    while waiting:
        module = waiting.pop()
        waiting += named_by_bytecode(module) - behind - {module}
        behind.add(module)
    for name in names:
        package = name.removesuffix(".component")
        assert f"{package}.component" in loaded[name]
        assert loaded[name] - Sources(ROOT).closure(package) - behind == set(), package
    (server,) = STARTED["components.infra_validator"]
    assert loaded[server] - Sources(ROOT).closure("components.infra_validator") - behind == set()


def test_contracts_are_modules_with_a_reason():
    assert set(CONTRACTS) <= set(modules(ROOT))
    assert all(len(reason.split()) > 5 for reason in CONTRACTS.values())
