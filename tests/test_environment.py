"""The environment is the one that the lock describes, and the code asks for nothing else."""

import ast
import functools
import importlib.metadata
import os
import re
import shutil
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


def test_the_environment_of_the_session_is_up_to_date():
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("not the environment of `make env`")
    # `--check` only: without it, an outdated stamp would replace the environment under this session
    result = subprocess.run(
        [ROOT / "scripts" / "env.sh", "--check"], capture_output=True, text=True, timeout=1800
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", ""), "run `make env`"


# Stands for uv in the tests of env.sh: "installs" itself, and notes what else it is asked to install.
_UV = """#!/usr/bin/env bash
set -e
here=$(cd "$(dirname "$0")" && pwd)
if [ "$1" = --version ]; then echo "uv {version}"; exit; fi
while [ "$1" != --python ]; do shift; done
python=$2; shift 2
case "$*" in
  uv==*) cp "$0" "$(dirname "$python")/uv" ;;
  *) echo "$*" >>"$here/../asked" ;;
esac
"""


class Checkout:
    """A folder with what `env.sh` reads, its own `.venv`, and a stub of uv in place of a package index."""

    def __init__(self, folder):
        self.root = folder
        self.venv = folder / ".venv"
        for name in ("lock-py311.txt", "tools.txt"):
            self._copy(f"requirements/{name}")
        for name in ("scripts/env.sh", "setup.py", "shelfwise_env.py", "shelfwise_env.pth"):
            self._copy(name)
        [version] = re.findall(r"^uv==(.+)", (ROOT / "requirements/tools.txt").read_text(), re.MULTILINE)
        self.path = folder.parent / f"{folder.name}_path"
        self.path.mkdir()
        (self.path / "uv").write_text(_UV.replace("{version}", version))
        (self.path / "uv").chmod(0o755)

    def _copy(self, name):
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)

    def run(self, *arguments):
        """Exit status and stderr of `env.sh`, which never writes to stdout."""
        environment = {"PATH": f"{self.path}:{os.defpath}", "PYTHON": sys._base_executable}
        done = subprocess.run(
            [self.root / "scripts/env.sh", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=1800,
        )
        assert done.stdout == ""
        return done.returncode, done.stderr

    def check(self):
        """Exit status of `--check`, which says nothing and changes nothing."""
        before = self.files()
        status, said = self.run("--check")
        assert said == ""
        assert self.files() == before
        return status

    def files(self):
        """Every file and folder with its inode and time of change."""
        found = (self.root, *self.root.rglob("*"))
        return {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in found}

    def asked(self):
        """What the stub was asked to install."""
        path = self.venv / "asked"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkout after `make env`."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    assert checkout.check() == 1
    status, said = checkout.run()
    assert status == 0, said
    assert "env: creating .venv with CPython 3.11" in said
    assert said.splitlines()[-1].startswith("env: ready in ")
    return checkout


@pytest.fixture
def checkout(made, tmp_path):
    """A copy of it, with an environment that knows its new place."""
    copy = Checkout(tmp_path / "checkout")
    shutil.copytree(made.venv, copy.venv, symlinks=True)
    activate = copy.venv / "bin" / "activate"
    activate.write_text(activate.read_text().replace(str(made.root), str(copy.root)))
    status, said = copy.run()
    assert (status, "replacing" in said) == (0, False), said
    (copy.venv / "asked").unlink()
    return copy


def test_env_script_installs_the_lock_and_then_does_nothing(made):
    lock, shelfwise = made.asked()
    assert lock.endswith("-r requirements/lock-py311.txt")
    assert "--no-deps --require-hashes" in lock
    assert shelfwise.endswith("--reinstall-package shelfwise -e .")
    assert made.check() == 0
    before = made.files()
    assert made.run() == (0, "")
    assert made.files() == before


@pytest.mark.parametrize("changed", ["requirements/lock-py311.txt", "setup.py", "scripts/env.sh"])
def test_env_script_keeps_an_outdated_environment_and_installs_into_it(checkout, changed):
    own = checkout.venv / "own.txt"
    own.write_text("kept")
    with (checkout.root / changed).open("a") as file:
        file.write("# more\n")
    assert checkout.check() == 1
    assert checkout.asked() == []
    assert checkout.run()[0] == 0
    assert len(checkout.asked()) == 2
    assert own.exists()
    assert checkout.check() == 0


def test_env_script_continues_an_interrupted_installation(checkout):
    (checkout.venv / ".shelfwise-stamp").unlink()
    site = next((checkout.venv / "lib").glob("python3.11/site-packages"))
    for name, whole in (("half-1.0", False), ("whole-1.0", True)):
        (site / f"{name}.dist-info").mkdir()
        if whole:
            (site / f"{name}.dist-info" / "INSTALLER").write_text("uv")
    assert checkout.check() == 1
    assert "env: installing half-1.0 again (was interrupted)" in checkout.run()[1].splitlines()
    assert sorted(path.name for path in site.glob("*.dist-info")) == ["whole-1.0.dist-info"]


def test_env_script_replaces_a_moved_environment(checkout):
    moved = checkout.root.rename(checkout.root.with_name("moved"))
    checkout.root, checkout.venv = moved, moved / ".venv"
    assert checkout.check() == 1
    status, said = checkout.run()
    assert (status, said.splitlines()[0]) == (
        0,
        f"env: replacing {moved}/.venv (moved, broken or another Python)",
    )
    assert checkout.check() == 0


def test_env_script_deletes_nothing_before_it_has_an_interpreter(checkout, monkeypatch):
    (checkout.venv / "bin" / "activate").write_text("of another place")
    (checkout.venv / ".shelfwise-stamp").unlink()
    before = {path: kept for path, kept in checkout.files().items() if path.is_relative_to(checkout.venv)}
    monkeypatch.setattr(sys, "_base_executable", "/no/python3.11")
    status, said = checkout.run()
    assert (status, said) == (1, "env: PYTHON=/no/python3.11 is not a 64-bit CPython 3.11\n")
    assert before.items() <= checkout.files().items()


def test_env_script_keeps_what_is_not_its_own(checkout, tmp_path):
    (checkout.venv / ".shelfwise-stamp").unlink()
    elsewhere = checkout.venv.rename(tmp_path / "elsewhere")
    before = sorted(elsewhere.rglob("*"))
    checkout.venv.symlink_to(elsewhere)
    assert checkout.check() == 1
    assert checkout.run() == (
        1,
        f"env: {checkout.venv} is a link; remove it to get an environment of this checkout\n",
    )
    assert checkout.venv.is_symlink()
    assert sorted(elsewhere.rglob("*")) == before
    checkout.venv.unlink()
    checkout.venv.mkdir()
    (checkout.venv / "notes.txt").write_text("mine")
    status, said = checkout.run()
    assert (status, "is not a virtual environment; move it away" in said) == (1, True)
    assert (checkout.venv / "notes.txt").exists()


def test_env_script_refuses_what_it_does_not_know(checkout):
    before = checkout.files()
    assert checkout.run("--chek") == (1, "env: unknown argument: --chek (try --check, or none)\n")
    assert checkout.files() == before


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
