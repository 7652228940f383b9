"""A spec executed on this machine: order, contract, cache, retries, a killed run. Its steps are scripts."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml

from kubeflow import portable
from kubeflow.local import LocalRun, Plan
from schema.errors import ConfigError, UserError

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = "title: tfx.Examples\ntype: object\nproperties:\n  span:\n    type: integer\n"
# What a step's script begins with. It says what it was given, and writes what TFX's entry point writes.
PRELUDE = """
import json, os, sys, time
given = json.loads(sys.argv[1])
inputs, outputs = given["inputs"], given["outputs"]
parameters = inputs.get("parameterValues", {})
def finish(text="", **values):
    metadata = {"span": 3, "about": {"text": text}}
    (artifact,) = outputs["artifacts"]["made"]["artifacts"]
    os.makedirs(artifact["uri"])
    with open(artifact["uri"] + "/text", "w") as file:
        file.write(text)
    made = {"name": artifact["name"], "uri": artifact["uri"], "metadata": metadata}
    with open(outputs["outputFile"], "w") as file:
        json.dump({"artifacts": {"made": {"artifacts": [made]}}, "parameterValues": values}, file)
def read(name):
    (artifact,) = inputs["artifacts"][name]["artifacts"]
    assert artifact["type"]["instanceSchema"].startswith("title: tfx.Examples\\ntype: object\\n")
    assert artifact["metadata"]["span"] == 3
    with open(artifact["uri"] + "/text") as file:
        return file.read()
def note(word):
    with open(os.environ["NOTES"], "a") as file:
        file.write(word + "\\n")
"""


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


class Shop:
    """A pipeline of scripts: `first` makes a text, `second` and `third` add to it, `last` joins them."""

    def __init__(self, folder):
        self.folder = folder
        self.bucket = folder / "bucket"
        self.notes = folder / "notes"
        self.scripts = {
            "first": "note('first'); finish(parameters['word'], size=len(parameters['word']))",
            "second": "note('second'); finish(read('text') + '2')",
            "third": "note('third'); finish(read('text') + '3', size=int(parameters['size']) + 1)",
            "last": "note('last'); finish(read('text') + read('other') + str(parameters['size']))",
        }
        self.tasks = {
            "first": _task(parameters={"word": {"runtimeValue": {"constant": "a"}}}),
            "second": _task(["first"], text="first"),
            "third": _task(["first"], {"size": _of("first", "size")}, text="first"),
            "last": _task(["second", "third"], {"size": _of("third", "size")}, text="second", other="third"),
        }
        self.inputs = {}

    def spec(self):
        components, executors = {}, {}
        for name, task in self.tasks.items():
            parameters = task["inputs"].get("parameters", {})
            kinds = {key: {"parameterType": self.kind(source)} for key, source in parameters.items()}
            artifact = {"artifactType": {"instanceSchema": SCHEMA}}
            components[name] = {
                "executorLabel": f"{name}_executor",
                "inputDefinitions": {
                    "parameters": kinds,
                    "artifacts": dict.fromkeys(task["inputs"].get("artifacts", {}), artifact),
                },
                "outputDefinitions": {"artifacts": {"made": artifact}},
            }
            if "size=" in self.scripts[name]:
                components[name]["outputDefinitions"]["parameters"] = {
                    "size": {"parameterType": "NUMBER_INTEGER"}
                }
            executors[f"{name}_executor"] = {
                "container": {
                    "image": "shop:1",
                    "command": ["python", "-S", "-c", PRELUDE + textwrap.dedent(self.scripts[name])],
                    "args": ["{{$}}"],
                    "env": [{"name": "NOTES", "value": str(self.notes)}],
                }
            }
        return {
            "schemaVersion": "2.1.0",
            "pipelineInfo": {"name": "small"},
            "components": components,
            "deploymentSpec": {"executors": executors},
            "root": {
                "inputDefinitions": {"parameters": self.inputs},
                "dag": {
                    "tasks": {
                        name: self.tasks[name] | {"componentRef": {"name": name}}
                        for name in sorted(self.tasks, reverse=True)
                    }
                },
            },
        }

    def kind(self, source):
        if "componentInputParameter" in source:
            return self.inputs[source["componentInputParameter"]]["parameterType"]
        return "NUMBER_INTEGER" if "taskOutputParameter" in source else "STRING"

    def go(self, jobs=2, **arguments):
        self.notes.write_text("")
        out = io.StringIO()
        self.run = LocalRun(Plan.of_spec(self.spec()), self.bucket, self.folder, jobs, out)
        try:
            states = self.run.run(arguments)
        finally:
            self.printed = out.getvalue()
        return states

    def noted(self):
        return self.notes.read_text().split()

    def text(self, task="last"):
        """What the newest execution of a task made."""
        made = self.bucket.glob(f"small/*/{task}-*/made/text")
        return max(made, key=lambda path: path.stat().st_mtime).read_text()


def _task(after=(), parameters=None, **artifacts):
    sources = {
        key: {"taskOutputArtifact": {"producerTask": task, "outputArtifactKey": "made"}}
        for key, task in artifacts.items()
    }
    return {
        "cachingOptions": {"enableCache": True},
        "dependentTasks": list(after),
        "inputs": {"parameters": dict(parameters or {}), "artifacts": sources},
    }


def _of(task, key):
    return {"taskOutputParameter": {"producerTask": task, "outputParameterKey": key}}


def test_artifacts_and_parameters_go_from_task_to_task(shop):
    assert shop.go() == dict.fromkeys(shop.tasks, "succeeded")
    assert shop.text() == "a2a32"
    noted = shop.noted()
    assert (noted[0], noted[-1]) == ("first", "last")
    assert set(noted[1:3]) == {"second", "third"}
    printed = re.findall(r"(?m)^\[ ([1-4])/4\] (\w+) +succeeded +[0-9.]+ s$", shop.printed)
    assert [count for count, _ in printed] == list("1234")
    assert (printed[0][1], printed[-1][1]) == ("first", "last")
    record = json.loads((shop.run.folder / "run.json").read_text())
    assert {name: task["state"] for name, task in record["tasks"].items()} == dict.fromkeys(
        shop.tasks, "succeeded"
    )


def test_the_second_time_everything_is_cached_and_a_change_runs_what_follows_from_it(shop):
    shop.go()
    assert shop.go() == dict.fromkeys(shop.tasks, "cached")
    assert shop.noted() == []
    # the same size: `last` gets the artifacts of `second` and `third`, which are new
    shop.tasks["third"]["inputs"]["parameters"]["size"] = _of("first", "size")
    shop.scripts["third"] = "note('third'); finish(read('text') + 'three', size=2)"
    expected = {"first": "cached", "second": "cached", "third": "succeeded", "last": "succeeded"}
    assert shop.go() == expected
    assert shop.text() == "a2athree2"
    assert shop.go() == dict.fromkeys(shop.tasks, "cached")


@pytest.mark.parametrize("change", ["constant", "image", "argument"])
def test_the_key_has_parameters_image_and_arguments(shop, change):
    shop.go()
    tree = shop.spec()
    container = tree["deploymentSpec"]["executors"]["second_executor"]["container"]
    if change == "constant":
        tree["root"]["dag"]["tasks"]["second"]["inputs"]["parameters"] = {
            "new": {"runtimeValue": {"constant": "1"}}
        }
        tree["components"]["second"]["inputDefinitions"]["parameters"] = {"new": {"parameterType": "STRING"}}
    elif change == "image":
        container["image"] = "shop:2"
    else:
        container["args"].append("--more")
    states = LocalRun(Plan.of_spec(tree), shop.bucket, shop.folder, out=io.StringIO()).run()
    assert states == {"first": "cached", "second": "succeeded", "third": "cached", "last": "succeeded"}


def test_a_task_without_caching_runs_again_and_its_answer_is_what_counts(shop):
    shop.scripts["first"] = "note('first'); finish('a', size=1)"
    shop.scripts["third"] = "note('third'); finish('3', size=parameters['size'])"
    shop.tasks["first"]["cachingOptions"] = {}
    for name in ("second", "third"):
        shop.tasks[name]["inputs"]["artifacts"] = {}
    shop.scripts["second"] = "note('second'); finish('2')"
    shop.go()
    assert shop.go() == {"first": "succeeded", "second": "cached", "third": "cached", "last": "cached"}
    shop.scripts["first"] = "note('first'); finish('a', size=2)"
    again = shop.go()
    assert again == {"first": "succeeded", "second": "cached", "third": "succeeded", "last": "succeeded"}


def test_outputs_that_were_deleted_are_made_again(shop):
    shop.go()
    for path in shop.bucket.glob("small/*/second-1/made/text"):
        path.unlink()
        path.parent.rmdir()
    assert shop.go() == {"first": "cached", "second": "succeeded", "third": "cached", "last": "succeeded"}


def test_each_task_has_a_process_and_a_working_directory_of_its_own(shop, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "1")
    for name in ("second", "third"):
        shop.scripts[name] = (
            "open('left', 'x').close()\n"
            "assert os.listdir() in (['tmp', 'left'], ['left', 'tmp'])\n"
            "assert os.environ['HOME'] == os.getcwd() and 'SECRET_OF_THE_CALLER' not in os.environ\n"
            "note(os.getcwd()); note(str(os.getpid())); note(os.environ['PYTHONPATH']); finish('', size=1)"
        )
    shop.go()
    first, *noted, last = shop.noted()
    assert (first, last) == ("first", "last")
    folders = {word for word in noted if word.startswith("/") and word != str(shop.folder)}
    assert len(folders) == 2
    assert not any(os.path.exists(folder) for folder in folders)
    assert len({word for word in noted if word.isdigit()} - {str(os.getpid())}) == 2
    assert noted.count(str(shop.folder)) == 2  # what stands for the image's project folder


def test_a_failed_task_is_tried_again_with_fresh_folders(shop):
    shop.tasks["second"]["retryPolicy"] = {"maxRetryCount": 2}
    shop.scripts["second"] = (
        "note('second')\n"
        "assert not os.path.exists(outputs['artifacts']['made']['artifacts'][0]['uri'])\n"
        "finish('2')\n"
        "sys.exit(open(os.environ['NOTES']).read().count('second') < 3)"
    )
    assert shop.go()["second"] == "succeeded"
    assert shop.noted().count("second") == 3
    assert shop.text().startswith("2")


def test_a_task_that_fails_ends_the_run_with_its_reason_and_what_succeeded_is_kept(shop):
    shop.scripts["second"] = "raise SystemExit('ConfigError: items.path: no such file')"
    with pytest.raises(
        UserError, match=r"^second: items\.path: no such file \(log: .*second-1/executor-logs"
    ):
        shop.go()
    assert set(shop.noted()) == {"first", "third"}
    record = json.loads((shop.run.folder / "run.json").read_text())["tasks"]
    assert (record["second"]["state"], record["third"]["state"]) == ("failed", "succeeded")
    shop.scripts["second"] = "finish('2')"
    expected = {"first": "cached", "second": "succeeded", "third": "cached", "last": "succeeded"}
    assert shop.go() == expected


def test_a_task_that_does_not_say_what_it_must(shop):
    shop.scripts["third"] = "finish(read('text'))  # size="
    with pytest.raises(UserError, match="third: did not write its output parameter size"):
        shop.go()


def test_parameters_of_the_pipeline(shop):
    shop.inputs = {"days": {"parameterType": "NUMBER_INTEGER", "defaultValue": 7, "isOptional": True}}
    shop.tasks["first"]["inputs"]["parameters"] = {
        "word": {
            "runtimeValue": {"constant": "{\"days\": {{$.inputs.parameters['pipelinechannel--days']}}}"}
        },
        "pipelinechannel--days": {"componentInputParameter": "days"},
    }
    shop.scripts["first"] = "finish(str(json.loads(parameters['word'])['days'] + 1), size=1)"
    shop.go()
    assert shop.text("first") == "8"
    assert set(shop.go(days=20).values()) == {"succeeded"}
    assert shop.text("first") == "21"
    assert set(shop.go(days=7).values()) == {"cached"}
    with pytest.raises(
        ConfigError, match="--parameter weeks: the pipeline has no such parameter; known: days"
    ):
        shop.go(weeks=1)


@pytest.mark.slow
def test_a_killed_run_leaves_no_process_and_is_resumed(shop):
    shop.scripts["second"] = "note('second'); note(str(os.getpid())); time.sleep(600)"
    path = shop.folder / "spec.yaml"
    path.write_text(yaml.safe_dump(shop.spec()))
    script = (
        "import sys; from pathlib import Path; from kubeflow.local import LocalRun, Plan\n"
        "LocalRun(Plan.of_file(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), 1).run()"
    )
    command = [sys.executable, "-c", script, str(path), str(shop.bucket), str(shop.folder)]
    shop.notes.write_text("")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while not (noted := shop.noted())[-1:] or not noted[-1].isdigit():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    while os.path.exists(f"/proc/{noted[-1]}"):
        time.sleep(0.02)  # the test's time limit is what ends this
    shop.scripts["second"] = "note('second'); finish('2')"
    states = shop.go()
    assert states["first"] == "cached"
    assert (states["second"], states["last"]) == ("succeeded", "succeeded")


def test_a_file_that_is_no_spec(tmp_path):
    (tmp_path / "spec.yaml").write_text("a: 1\n")
    with pytest.raises(ConfigError, match=r"spec\.yaml: is no pipeline spec .*compile it again"):
        Plan.of_file(tmp_path / "spec.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.update(schemaVersion="2.0.0"), "schema version 2.0.0 instead of 2.1"),
        (
            lambda tree: tree["deploymentSpec"]["executors"].update(last_executor={"resolver": {}}),
            "last is a resolver task",
        ),
        (
            lambda tree: tree["deploymentSpec"]["executors"]["last_executor"]["container"].update(
                lifecycle={"preCacheCheck": {"command": ["python"]}}
            ),
            r"last has a driver \(lifecycle\.preCacheCheck\)",
        ),
        (
            lambda tree: tree["root"]["dag"]["tasks"]["last"].update(triggerPolicy={"condition": "1 == 1"}),
            "last runs on a condition",
        ),
        (
            lambda tree: tree["root"]["dag"]["tasks"]["last"].update(dependentTasks=["second"]),
            "last uses third and does not wait for it",
        ),
        (
            lambda tree: tree["root"]["dag"]["tasks"]["third"]["inputs"]["parameters"].update(
                size=_of("first_task", "size")
            ),
            "third waits for first_task, which is no task",
        ),
        (
            lambda tree: tree["components"]["last"]["outputDefinitions"]["artifacts"].update(
                made={"artifactType": {"instanceSchema": "type: object\n"}}
            ),
            "last.made has an artifact type without a title",
        ),
    ],
)
def test_what_not_every_back_end_runs(shop, change, message):
    tree = shop.spec()
    portable.check(tree)
    change(tree)
    with pytest.raises(ConfigError, match=f"^not every back end runs this pipeline: {message}"):
        portable.check(tree)
