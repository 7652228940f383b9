"""The environment is the one that the lock describes, and the code asks for nothing else."""

import ast
import functools
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import shelfwise_env

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ["pipeline", "components", "models", "schema", "serving", "kubeflow"]
MODULES = ["shelfwise.py", "shelfwise_env.py"]
FORBIDDEN = re.compile(r"torch|torchvision|triton|nvidia-.*|tensorflow|jax|.*cuda.*")
# Imported module -> what setup.py calls it, where the installed distribution has another name.
ALIASES = {"tensorflow-cpu": "tensorflow"}


def locked():
    lines = (ROOT / "requirements" / "lock-py311.txt").read_text().splitlines()
    pins = [re.match(r"([a-z0-9][a-z0-9._-]*)==([^ ;]+)", line) for line in lines]
    return {pin[1]: pin[2] for pin in pins if pin}


def product_files():
    modules = [ROOT / name for name in MODULES]
    return modules + [path for name in PRODUCT for path in (ROOT / name).rglob("*.py")]


@functools.cache
def imported_modules():
    """Dotted names of everything that the product imports -> one file that does."""
    found = {}
    for path in product_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            found.update((name, path.relative_to(ROOT)) for name in names)
    return found


def run_python(code, **environment):
    """Runs `code` in a fresh interpreter with nothing but `environment`."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd="/", env=environment, capture_output=True, text=True, check=True
    )


def test_lock_has_no_torch_and_no_cuda():
    assert [name for name in locked() if FORBIDDEN.fullmatch(name)] == []


def test_every_pin_has_a_hash():
    text = (ROOT / "requirements" / "lock-py311.txt").read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked()) > 200
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_installed_versions_are_the_locked_ones():
    # site-packages by name: setuptools, once imported, puts its vendored packages on sys.path
    packages = importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])
    installed = {canonicalize_name(package.metadata["Name"]): package.version for package in packages}
    wrong = {
        name: (version, installed.get(name))
        for name, version in locked().items()
        if installed.get(name) != version
    }
    assert wrong == {}, "(locked, installed); run `make env`"
    assert [name for name in installed if FORBIDDEN.fullmatch(name)] == []


def test_overrides_are_in_the_lock():
    pins = locked()
    for line in (ROOT / "requirements" / "overrides.txt").read_text().splitlines():
        requirement = Requirement(line) if line and not line.startswith("#") else None
        if requirement is None:
            continue
        if requirement.marker is not None:  # `sys_platform == "never"`: left out
            assert requirement.name not in pins
        else:
            assert requirement.specifier.contains(pins[requirement.name]), line


def test_generated_messages_fit_the_installed_protobuf():
    import google.protobuf

    runtime = tuple(map(int, google.protobuf.__version__.split(".")))
    newer = {}
    for path in Path(sysconfig.get_path("purelib")).rglob("*_pb2.py"):
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.read(400)
        made_for = re.search(r"Protobuf Python Version: (\d+)\.(\d+)\.(\d+)", head)
        if made_for and tuple(map(int, made_for.groups())) > runtime:
            newer[path.name] = made_for[0]
    assert newer == {}


def test_every_process_gets_legacy_keras():
    names = "os.environ['TF_USE_LEGACY_KERAS'], os.environ['KERAS_BACKEND'], 'tensorflow' in sys.modules"
    code = f"import os, sys; print({names})"
    assert run_python(code).stdout.split() == ["1", "tensorflow", "False"]


def test_another_keras_is_reported_and_left_alone():
    result = run_python("import os; print(os.environ['TF_USE_LEGACY_KERAS'])", TF_USE_LEGACY_KERAS="0")
    assert result.stdout.strip() == "0"
    assert result.stderr.startswith("shelfwise: TF_USE_LEGACY_KERAS=0 is set, but Shelfwise needs")
    assert len(result.stderr.splitlines()) == 1


def test_late_import_is_reported(monkeypatch):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS")
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)  # an earlier test may have imported it
    assert shelfwise_env.problems() == []
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    assert shelfwise_env.problems() == [
        "tensorflow was imported before shelfwise_env; import shelfwise_env first"
    ]


def test_pth_is_harmless_without_the_module(tmp_path):
    code = (ROOT / "shelfwise_env.pth").read_text()
    assert code.startswith("import ")  # the interpreter executes only such lines
    assert len(code.splitlines()) == 1 or code.splitlines()[1:] == []
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    )
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.parametrize(
    "package",
    [
        "tensorflow",
        "tfx",
        "tensorflow_recommenders",
        "tensorflow_text",
        "tensorflow_serving",
        "apache_beam",
        "keras_nlp",
    ],
)
def test_product_uses(package):
    assert package in {name.split(".")[0] for name in imported_modules()}


def test_every_import_is_declared_in_setup_py():
    # By folder: a checkout may hold the stale egg-info of an earlier build.
    [installed] = importlib.metadata.distributions(name="shelfwise", path=[sysconfig.get_path("purelib")])
    requirements = [Requirement(line) for line in installed.requires]
    declared = {canonicalize_name(requirement.name) for requirement in requirements}
    providers = importlib.metadata.packages_distributions()
    undeclared = {}
    for module, path in imported_modules().items():
        top = module.split(".")[0]
        if top in sys.stdlib_module_names or top in PRODUCT or top == "shelfwise_env":
            continue
        names = {canonicalize_name(name) for name in providers.get(top, [])}
        names |= {ALIASES[name] for name in names & ALIASES.keys()}
        if not names & declared:
            undeclared[module] = str(path)
    assert undeclared == {}


def test_env_script_does_nothing_when_up_to_date():
    stamp = ROOT / ".venv" / ".shelfwise-stamp"
    if Path(sys.prefix) != stamp.parent:
        pytest.skip("not the environment of `make env`")
    before = stamp.stat()
    result = subprocess.run(
        [ROOT / "scripts" / "env.sh"], capture_output=True, text=True, check=True, timeout=10
    )
    assert (result.stdout, result.stderr) == ("", "")
    assert stamp.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.slow
def test_wheel_has_everything_that_the_product_reads(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in [*PRODUCT, *MODULES, "setup.py", "pyproject.toml", "shelfwise_env.pth"]:
        subprocess.run(["cp", "-r", ROOT / name, source], check=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
    ]
    subprocess.run([*command, source], check=True, env={**os.environ, "PIP_NO_INDEX": "1"})
    [wheel] = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {*MODULES, "shelfwise_env.pth"} <= inside  # at the top: land in site-packages
    wanted = {
        str(path.relative_to(ROOT))
        for name in PRODUCT
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name != "Dockerfile"
    }
    assert wanted - inside == set()
