"""The compiled spec: components, edges, commands, settings, and who can load it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.kubeflow import dockerfile

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ENTRY = "kubeflow.entrypoint"
IMAGE = "registry.example/shop/shelfwise:7"
SETTINGS = {
    "image": IMAGE,
    "pipeline_root": "gs://bucket/shop/",
    "retries": 3,
    "parameters": ["split.test_days", "ranking.epochs"],
    "steps": {
        "default": {"cpu": 2, "memory_gb": 7.5},
        "RetrievalTrainer": {
            "cpu": 8,
            "memory_gb": 30,
            "accelerator": "NVIDIA_T4",
            "accelerator_count": 2,
            "node_selector": {"pool": "gpu"},
        },
    },
}
UNCACHED = ("CatalogDataVersion", "EventDataVersion", "BaselineModel", "WarmStartModel")

_ITEMS = {"items": "ItemTransform.transformed_examples", "item_graph": "ItemTransform.transform_graph"}
_USERS = {"users": "UserTransform.transformed_examples", "user_graph": "UserTransform.transform_graph"}
_GRAPH = {"session_graph": "EventTransform.transform_graph"}
_RAW = {"raw_sessions": "EventExampleGen.examples"}
_RAW_USERS = {"raw_users": "CatalogExampleGen.users"}
_RETRIEVED = {"retrieval_model": "RetrievalTrainer.model", "index": "CandidateIndex.index"}
_SEARCHED = {
    "catalog": "CatalogExampleGen.items",
    "query_encoder": "QueryEncoderTrainer.model",
    "search": "SearchTrainer.search",
}
_TABLES = {
    "Item": "CatalogExampleGen.items",
    "User": "CatalogExampleGen.users",
    "Event": "EventExampleGen.examples",
}
# task -> its inputs -> producing task and its output
EDGES = {
    "CatalogDataVersion": {},
    "EventDataVersion": {},
    "CatalogExampleGen": {},
    "EventExampleGen": {"items": "CatalogExampleGen.items"},
    **{f"{table}Statistics": {"examples": source} for table, source in _TABLES.items()},
    **{f"{table}Schema": {} for table in _TABLES},
    **{
        f"{table}Validator": {
            "statistics": f"{table}Statistics.statistics",
            "schema": f"{table}Schema.schema",
        }
        for table in _TABLES
    },
    "DataQualityGate": {f"{table.lower()}s": f"{table}Validator.anomalies" for table in _TABLES},
    **{
        f"{table}Transform": {"examples": source, "schema": f"{table}Schema.schema"}
        for table, source in _TABLES.items()
    },
    "TextEncoderTrainer": _ITEMS,
    "RetrievalTrainer": {
        "sessions": "EventTransform.transformed_examples",
        "text_encoder": "TextEncoderTrainer.model",
        **(_RAW | _GRAPH | _ITEMS | _USERS),
    },
    "CandidateIndex": {
        "catalog": "CatalogExampleGen.items",
        "text_encoder": "TextEncoderTrainer.model",
        "retrieval_model": "RetrievalTrainer.model",
        **(_RAW | _GRAPH | _ITEMS),
    },
    "CandidateSampler": _RAW | _RAW_USERS | _GRAPH | _ITEMS | _USERS | _RETRIEVED,
    "RankingTrainer": {
        "candidates": "CandidateSampler.candidates",
        **(_GRAPH | _ITEMS | _USERS | _RETRIEVED),
    },
    "ServableBuilder": {
        "text_encoder": "TextEncoderTrainer.model",
        "ranking_model": "RankingTrainer.model",
        **_SEARCHED,
        **(_RAW | _GRAPH | _ITEMS | _USERS | _RETRIEVED),
    },
    "QueryEncoderTrainer": {
        "catalog": "CatalogExampleGen.items",
        "text_encoder": "TextEncoderTrainer.model",
        **_ITEMS,
    },
    "SearchTrainer": {
        "catalog": "CatalogExampleGen.items",
        "text_encoder": "TextEncoderTrainer.model",
        "query_encoder": "QueryEncoderTrainer.model",
        "ranking_model": "RankingTrainer.model",
        **(_RAW | _GRAPH | _ITEMS | _USERS | _RETRIEVED),
    },
    "SearchEvaluator": {
        "catalog": "CatalogExampleGen.items",
        "search": "SearchTrainer.search",
        "model": "ServableBuilder.model",
        **(_RAW | _ITEMS),
    },
    "WarmStartModel": _RAW,
    "BaselineModel": {"model": "ServableBuilder.model"},
    "Evaluator": {
        "examples": "CandidateSampler.candidates",
        "model": "ServableBuilder.model",
    },
    "FunnelEvaluator": {
        "candidates": "CandidateSampler.candidates",
        "model": "ServableBuilder.model",
        "ranking_blessing": "Evaluator.blessing",
        **(_RAW | _RAW_USERS),
    },
    "InfraValidator": {"model": "ServableBuilder.model"},
    "Pusher": {
        "model": "ServableBuilder.model",
        "model_blessing": "FunnelEvaluator.blessing",
        "ranking_blessing": "Evaluator.blessing",
        "infra_blessing": "InfraValidator.blessing",
        "search_blessing": "SearchEvaluator.blessing",
    },
}

# task -> its parameters that another task finds -> that task and its output
VALUES = {
    "CatalogExampleGen": {"data_version": "CatalogDataVersion.version"},
    "EventExampleGen": {"data_version": "EventDataVersion.version"},
    "RetrievalTrainer": {"last_model": "WarmStartModel.version"},
    "Evaluator": {"baseline": "BaselineModel.version"},
    "FunnelEvaluator": {"baseline": "BaselineModel.version"},
}


def _run(command, cwd, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHELFWISE_")}
    return subprocess.run(
        command, cwd=cwd, env=kept | environment, capture_output=True, text=True, timeout=1800, check=False
    )


def _compile(folder, output, *argv, config):
    command = [sys.executable, "-m", "kubeflow.runner", "--config", str(config), "--output", output, *argv]
    return _run(command, folder, PYTHONPATH=str(ROOT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory that is not the checkout, with a configuration."""
    folder = tmp_path_factory.mktemp("compile")
    config = yaml.safe_load((ROOT / "pipeline/configs/complete_journey.yaml").read_text())
    config["kubeflow"] = SETTINGS
    (folder / "shop.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def compiled(folder):
    """What the command printed and wrote."""
    done = _compile(folder, "spec.yaml", config=folder / "shop.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, (folder / "spec.yaml").read_text()


@pytest.fixture(scope="module")
def spec(compiled):
    return next(yaml.safe_load_all(compiled[1]))


@pytest.fixture(scope="module")
def without_users(folder):
    """Another shop: no users, no exposures, data that cannot be reached from here, other settings."""
    config = yaml.safe_load((folder / "shop.yaml").read_text())
    del config["users"], config["exposures"]
    config["data"]["root"] = "nowhere://shop/data"
    volumes = [{"claim": "shop", "path": "/mnt/shop"}]
    config["kubeflow"] = {"pipeline_root": "/mnt/shop", "serving_dir": "/mnt/models", "retries": 0}
    config["kubeflow"]["steps"] = {"Pusher": {"volumes": volumes}}
    (folder / "other.yaml").write_text(yaml.safe_dump(config))
    done = _compile(folder, "job.json", "--name", "other_shop", config=folder / "other.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, json.loads((folder / "job.json").read_text())


def _tasks(spec):
    return spec["root"]["dag"]["tasks"]


def _containers(spec):
    executors = spec["deploymentSpec"]["executors"]
    labels = {name: spec["components"][name]["executorLabel"] for name in _tasks(spec)}
    return {
        name: executors[label]["container"]
        for name, label in labels.items()
        if "container" in executors[label]
    }


def _edges(spec):
    found = {}
    for name, task in _tasks(spec).items():
        artifacts = task.get("inputs", {}).get("artifacts", {})
        sources = {key: value["taskOutputArtifact"] for key, value in artifacts.items()}
        found[name] = {
            key: f"{source['producerTask']}.{source['outputArtifactKey']}" for key, source in sources.items()
        }
    return found


def _constants(task):
    parameters = task.get("inputs", {}).get("parameters", {})
    return {
        name: value["runtimeValue"]["constant"]
        for name, value in parameters.items()
        if "runtimeValue" in value
    }


def _values(spec):
    found = {}
    for name, task in _tasks(spec).items():
        for key, value in task.get("inputs", {}).get("parameters", {}).items():
            if "taskOutputParameter" in value:
                source = value["taskOutputParameter"]
                found.setdefault(name, {})[key] = f"{source['producerTask']}.{source['outputParameterKey']}"
    return found


def test_components_and_edges(spec):
    assert spec["schemaVersion"] == "2.1.0"
    assert spec["pipelineInfo"]["name"] == "complete-journey"
    assert _edges(spec) == EDGES
    for name, inputs in EDGES.items():
        for source in inputs.values():
            producer, _, key = source.partition(".")
            assert key in spec["components"][producer]["outputDefinitions"]["artifacts"], (name, source)
    assert _values(spec) == VALUES
    for name, values in VALUES.items():
        for key, source in values.items():
            producer, _, output = source.partition(".")
            assert spec["components"][producer]["outputDefinitions"]["parameters"][output] == {
                "parameterType": "STRING"
            }
            assert spec["components"][name]["inputDefinitions"]["parameters"][key] == {
                "parameterType": "STRING"
            }


def test_a_task_waits_for_its_producers_and_learning_for_the_gate(spec):
    gated = {f"{table}Transform" for table in _TABLES}
    for name in _containers(spec):
        sources = (EDGES[name] | VALUES.get(name, {})).values()
        expected = {source.partition(".")[0] for source in sources}
        expected |= {"DataQualityGate"} if name in gated else set()
        assert set(_tasks(spec)[name].get("dependentTasks", [])) == expected, name


def test_every_component_is_a_container_of_the_image(spec):
    containers = _containers(spec)
    assert set(containers) == set(EDGES)
    assert all(set(executor) == {"container"} for executor in spec["deploymentSpec"]["executors"].values())
    for name, container in containers.items():
        assert container["image"] == IMAGE
        assert container["command"] == ["python", "-m", ENTRY]
        args = container["args"]
        assert args[0] == "--executor_class_path"
        assert args[2:5] == [
            "--json_serialized_invocation_args",
            "{{$}}",
            "--json_serialized_inputs_spec_args",
        ]
        assert json.loads(args[5]).get("artifacts", {}).keys() == EDGES[name].keys()
        assert args[6:] == ["--runner=FnApiRunner"]


def test_resources_retries_caching_and_folders(spec):
    assert spec["defaultPipelineRoot"] == "gs://bucket/shop"
    for name, container in _containers(spec).items():
        expected = {"cpuLimit": 2.0, "memoryLimit": 7.5}
        if name == "RetrievalTrainer":
            accelerator = {"type": "NVIDIA_T4", "count": "2"}
            expected = {"cpuLimit": 8.0, "memoryLimit": 30.0, "accelerator": accelerator}
        assert container["resources"] == expected
        assert _tasks(spec)[name]["retryPolicy"] == {"maxRetryCount": 3}
        # these look in every run: no cache key knows what is in the files, or was pushed
        assert _tasks(spec)[name]["cachingOptions"] == ({} if name in UNCACHED else {"enableCache": True})
    assert _constants(_tasks(spec)["Pusher"])["destination"] == "gs://bucket/shop/serving/shelfwise"
    schemas = {table: _constants(_tasks(spec)[f"{table}Schema"])["schema_file"] for table in _TABLES}
    assert schemas == {
        table: f"/opt/shelfwise/schema/complete_journey/{table.lower()}s.pbtxt" for table in _TABLES
    }


_IN_BUCKET = (
    "import sys; from kubeflow import entrypoint as e; e.MOUNTS['minio://'] = sys.argv.pop(1); e.main()"
)


def test_a_registry_container_answers_with_a_parameter(spec, tmp_path):
    """Its command with the invocation that Kubeflow puts in place of {{$}}: no driver, no metadata store.

    The artifacts are in a bucket that TensorFlow cannot open; KFP's launcher has copied the input.
    """
    model = tmp_path / "bucket" / "model" / "Format-Serving"
    model.mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"graph")
    version = tmp_path / "serving" / "17"
    (version / "assets.extra").mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"another graph")
    record = {
        **{"model": "/gone", "identity": "a", "pushed_at": "", "learned_until": None, "window": [1, 2]},
        **{"baseline": None, "figures": {}, "standing": {"auc": 0.99}, "software": {}},
    }
    (version / "assets.extra" / "push_record.json").write_text(json.dumps(record))
    task, definition = _tasks(spec)["BaselineModel"], spec["components"]["BaselineModel"]
    artifact = definition["inputDefinitions"]["artifacts"]["model"]["artifactType"]
    output = definition["outputDefinitions"]["artifacts"]["version"]["artifactType"]
    invocation = {
        "inputs": {
            "artifacts": {
                "model": {"artifacts": [{"name": "5", "uri": "minio://bucket/model", "type": artifact}]}
            },
            "parameterValues": _constants(task) | {"destination": str(tmp_path / "serving")},
        },
        "outputs": {
            "artifacts": {"version": {"artifacts": [{"uri": "minio://bucket/out/version", "type": output}]}},
            "parameters": {"version": {"outputFile": str(tmp_path / "out" / "parameter")}},
            "outputFile": str(tmp_path / "out" / "output.json"),
        },
    }
    container = _containers(spec)["BaselineModel"]
    arguments = [json.dumps(invocation) if value == "{{$}}" else value for value in container["args"]]
    assert container["command"] == ["python", "-m", "kubeflow.entrypoint"]
    command = [sys.executable, "-c", _IN_BUCKET, f"{tmp_path}/", *arguments]
    done = _run(command, ROOT, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out" / "output.json").read_text())
    assert json.loads(written["parameterValues"]["version"]) == {
        "folder": str(version),
        "standing": {"auc": 0.99},
    }
    # where the launcher takes it from, and what it is to be called
    assert (tmp_path / "bucket" / "out" / "version").is_file()
    assert written["artifacts"]["version"]["artifacts"][0]["uri"] == "minio://bucket/out/version"


def test_numbers_that_are_given_when_a_run_is_started(spec):
    """They are parameters of the pipeline, and placeholders wherever a step's settings have them."""
    assert spec["root"]["inputDefinitions"]["parameters"] == {
        "split_test_days": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 28.0, "isOptional": True},
        "ranking_epochs": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3, "isOptional": True},
    }
    keys = {"split_test_days": ("split", "test_days"), "ranking_epochs": ("ranking", "epochs")}
    users = {name: set() for name in keys}
    for task, body in _tasks(spec).items():
        given = body.get("inputs", {}).get("parameters", {})
        settings = _constants(body).get("config", "{}")
        for name in keys:
            channel = f"pipelinechannel--{name}"
            placeholder = f"{{{{$.inputs.parameters['{channel}']}}}}"
            if channel in given:
                users[name].add(task)
                assert given[channel] == {"componentInputParameter": name}
                definition = spec["components"][task]["inputDefinitions"]["parameters"][channel]
                kind = spec["root"]["inputDefinitions"]["parameters"][name]["parameterType"]
                assert definition == {"parameterType": kind}
            assert (placeholder in settings) == (channel in given), (task, name)
            settings = settings.replace(placeholder, "-1")
        for section, field in keys.values():
            assert json.loads(settings).get(section, {}).get(field, -1) == -1, task
    assert users["ranking_epochs"] == {"RankingTrainer", "ServableBuilder"}
    assert {"EventExampleGen", "RetrievalTrainer", "WarmStartModel"} < users["split_test_days"]


def test_what_only_kubernetes_knows_is_a_second_document(compiled):
    _, platforms = yaml.safe_load_all(compiled[1])
    selector = {"nodeSelector": {"labels": {"pool": "gpu"}}}
    executors = {"RetrievalTrainer_executor": selector}
    assert platforms == {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}


def test_nothing_of_this_machine_is_in_the_spec(compiled, folder):
    for path in (ROOT, folder, sys.prefix, Path.home()):
        assert f"{path}/" not in compiled[1]


def test_the_command_says_what_it_made(compiled):
    first, *notes = compiled[0].splitlines()
    assert first.endswith(
        f"spec.yaml: pipeline complete-journey, 32 containers of {IMAGE}, root gs://bucket/shop"
    )
    assert notes == []


def test_messages_have_only_fields_that_kubeflow_knows(spec):
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    message = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert message.root.dag.tasks["Pusher"].retry_policy.max_retry_count == 3
    deployment = json_format.ParseDict(spec["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig())
    resources = deployment.executors["RetrievalTrainer_executor"].container.resources
    assert (resources.cpu_limit, resources.memory_limit) == (8, 30)
    assert (resources.accelerator.type, resources.accelerator.count) == ("NVIDIA_T4", 2)


def test_the_kfp_sdk_loads_it(compiled, folder):
    from kfp import components

    loaded = components.load_component_from_file(str(folder / "spec.yaml"))
    assert loaded.name == "complete-journey"
    assert set(loaded.pipeline_spec.root.dag.tasks) == set(EDGES)


def test_the_vertex_sdk_loads_it(compiled, without_users, folder):
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform

    roots = {}
    # Vertex AI's SDK reads a file of one document, which has no settings of Kubernetes.
    (folder / "vertex.yaml").write_text(compiled[1].split("\n---\n")[0])
    for name in ("vertex.yaml", "job.json"):
        job = aiplatform.PipelineJob(
            display_name="shop",
            template_path=str(folder / name),
            project="project",
            location="europe-west4",
            credentials=AnonymousCredentials(),
        )
        roots[name] = job.runtime_config.gcs_output_directory
    assert roots == {"vertex.yaml": "gs://bucket/shop", "job.json": "/mnt/shop"}


def test_the_tfx_command_line_compiles_the_same(compiled, folder, tmp_path):
    command = [
        "tfx",
        "pipeline",
        "compile",
        "--engine=vertex",
        f"--pipeline_path={ROOT / 'kubeflow/runner.py'}",
    ]
    done = _run(
        command,
        tmp_path,
        HOME=str(tmp_path),
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        SHELFWISE_CONFIG=str(folder / "shop.yaml"),
    )
    assert done.returncode == 0, done.stderr
    assert "Pipeline complete-journey compiled successfully." in done.stdout
    assert (tmp_path / "pipeline.yaml").read_text() == compiled[1]


def test_a_shop_without_users_and_with_data_out_of_reach(without_users):
    stdout, job = without_users
    spec = job["pipelineSpec"]
    absent = {f"User{step}" for step in ("Statistics", "Schema", "Validator", "Transform")}
    edges = {
        name: {
            key: source for key, source in inputs.items() if key not in ("users", "user_graph", "raw_users")
        }
        for name, inputs in EDGES.items()
        if name not in absent
    }
    assert _edges(spec) == edges
    assert spec["pipelineInfo"]["name"] == "other-shop"
    assert job["runtimeConfig"]["gcsOutputDirectory"] == "/mnt/shop"
    assert _constants(_tasks(spec)["Pusher"])["destination"] == "/mnt/models"
    for name, container in _containers(spec).items():
        assert container["image"] == "shelfwise:latest"
        assert "resources" not in container
        assert "retryPolicy" not in _tasks(spec)[name]
        caching = {} if name in UNCACHED else {"enableCache": True}
        assert _tasks(spec)[name]["cachingOptions"] == caching
    for table, section, file in (
        ("Catalog", "items", "products.parquet"),
        ("Event", "events", "transactions.parquet"),
    ):
        files = json.loads(_constants(_tasks(spec)[f"{table}DataVersion"])["files"])
        assert files == {"root": "nowhere://shop/data", "paths": {f"{section}.path": file}}
    assert "inputDefinitions" not in spec["root"]
    assert "note: node selectors, tolerations, secrets and volumes are for open-source" in stdout


def test_an_unknown_component_in_resources(folder):
    done = _compile(
        folder, "wrong.yaml", "--set", "kubeflow.steps.Retrieval.cpu=2", config=folder / "shop.yaml"
    )
    assert (done.returncode, done.stdout) == (1, "")
    known = ", ".join(sorted(EDGES))
    assert done.stderr == (
        "error: kubeflow.steps.Retrieval: the pipeline runs no component of this id; "
        f"known: default, {known}\n"
    )
    assert not (folder / "wrong.yaml").exists()


_IN_IMAGE = """
import importlib.util, json, os, sys
import yaml
import components, models, pipeline, schema, serving, kubeflow
from tfx.dsl.components.base import base_executor
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.utils import import_utils

spec = next(yaml.safe_load_all(open(sys.argv[1])))
here = os.getcwd()
for package in (components, models, pipeline, schema, serving, kubeflow):
    assert package.__file__.startswith(here + os.sep), package.__file__
assert os.environ["TF_USE_LEGACY_KERAS"] == "1"
found = {"executors": [], "types": set(), "functions": []}
for executor in spec["deploymentSpec"]["executors"].values():
    if "container" in executor:
        assert importlib.util.find_spec(executor["container"]["command"][2]) is not None
        path = executor["container"]["args"][1]
        assert issubclass(import_utils.import_class_by_path(path), base_executor.BaseExecutor), path
        found["executors"].append(path)
for component in spec["components"].values():
    for side in ("inputDefinitions", "outputDefinitions"):
        for artifact in component.get(side, {}).get("artifacts", {}).values():
            title = yaml.safe_load(artifact["artifactType"]["instanceSchema"])["title"]
            cls = import_utils.import_class_by_path(compiler_utils.TITLE_TO_CLASS_PATH.get(title, title))
            assert title in ("tfx." + cls.__name__, cls.TYPE_NAME), title
            found["types"].add(title)
for name, task in spec["root"]["dag"]["tasks"].items():
    constants = {
        key: value["runtimeValue"]["constant"]
        for key, value in task.get("inputs", {}).get("parameters", {}).items()
        if "runtimeValue" in value
    }
    if "preprocessing_fn" in constants:
        assert callable(import_utils.import_class_by_path(constants["preprocessing_fn"]))
        found["functions"].append(constants["preprocessing_fn"])
    if "schema_file" in constants:
        assert os.path.isfile(constants["schema_file"].replace("/opt/shelfwise", here, 1))
found["types"] = sorted(found["types"])
print(json.dumps(found))
"""


def test_what_the_image_copies_has_every_executor_artifact_type_and_schema(compiled, folder, tmp_path):
    for sources, _ in dockerfile.copies(ROOT / "kubeflow/Dockerfile"):
        for source in sources:
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy2
            (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / source, tmp_path / source)
    command = [sys.executable, "-c", _IN_IMAGE, str(folder / "spec.yaml")]
    done = _run(command, tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["executors"]) == len(EDGES)
    assert {"components.CandidateIndex", "components.RequestHistories"} <= set(found["types"])
    assert len(found["functions"]) == 3
