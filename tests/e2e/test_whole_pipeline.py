"""The whole pipeline on a slice of the real data: killed, resumed, cached, pushed, served, refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from components.common import registry
from schema.config import load
from serving.client import Client
from tests.e2e import cold_start, pushed
from tests.serving.process import Server
from tests.shops.households import household_frames, write_shop

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NAME = "small_shop"
DATA = ["CatalogExampleGen", "EventExampleGen"]
DATA += [
    f"{table}{kind}" for kind in ("Statistics", "Schema", "Validator") for table in ("Item", "User", "Event")
]
DATA += ["DataQualityGate"]
TRANSFORMS = [f"{table}Transform" for table in ("Item", "User", "Event")]
BEFORE_KILL = [*DATA, *TRANSFORMS, "TextEncoderTrainer", "WarmStartModel", "RetrievalTrainer"]
BEFORE_KILL += ["QueryEncoderTrainer"]  # by TFX's order: it needs the text encoder alone
AFTER_KILL = ["CandidateIndex", "CandidateSampler", "RankingTrainer", "SearchTrainer", "ServableBuilder"]
BLESSING = ["BaselineModel", "Evaluator", "FunnelEvaluator", "SearchEvaluator", "InfraValidator", "Pusher"]


class Shop:
    """A shop's folder, its configuration and the runs on it."""

    def __init__(self, folder):
        self.runs = folder / "runs"
        self.run = self.runs / NAME
        self.home = folder / "home"
        self.home.mkdir()
        tree = yaml.safe_load((ROOT / "pipeline/configs/complete_journey.yaml").read_text())
        tree["name"] = NAME
        tree["data"] = {"root": write_shop(folder / "data", household_frames(50))}
        tree["candidates"] = {"min_events": 3}
        tree["retrieval"] = {"epochs": 1, "batch_sessions": 256}
        # 76 lists are five batches: fewer epochs would leave the ranker at its random weights
        tree["ranking"] = {"epochs": 20, "list_size": 64, "eval_list_size": 64}
        tree["serving"] = {"exploration_share": 0.1}
        tree["infra_validator"] = {"rounds": 3}  # how fast it is, is no question here
        # what a slice of 50 households can be held to: that it runs, not that it is good
        tree["quality"] = {"must_beat": [], "min_auc": 0.5, "max_regression": 0.9, "max_relative_ece": 0.9}
        tree["quality"]["search"] = {"known_items": 40, "personal_users": 20, "max_typo_loss": 0.9}
        tree["search_training"] = {"pseudo_queries": 100, "personal_queries": 60, "epochs": 5}
        self.config = folder / "shop.yaml"
        self.config.write_text(yaml.safe_dump(tree))

    def environment(self):
        return os.environ | {
            "HOME": str(self.home),
            "SHELFWISE_CONFIG": str(self.config),
            "SHELFWISE_RUNS_DIR": str(self.runs),
        }

    def command(self, *more):
        return [
            *(sys.executable, "-m", "pipeline.local_runner", "--config", str(self.config)),
            *("--runs-dir", str(self.runs), *more),
        ]

    def go(self, *more):
        return subprocess.run(
            self.command(*more),
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=1800,
        )

    def kill_in(self, component):
        """Starts a run and kills it, hard, in a component: it is registered before it has a folder."""
        folder = self.run / "artifacts" / component
        with subprocess.Popen(
            self.command(), cwd=ROOT, env=self.environment(), stdout=subprocess.DEVNULL
        ) as process:
            while not folder.exists():
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL

    def summary(self):
        return json.loads((self.run / "summary.json").read_text())

    def states(self):
        """Component -> states of its executions, oldest first, from the metadata store."""
        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = str(self.run / "metadata.sqlite")
        store = metadata_store.MetadataStore(config)
        nodes = {
            context.id: context.name.removeprefix(f"{NAME}.")
            for context in store.get_contexts_by_type("node")
        }
        out = {}
        for execution in sorted(store.get_executions(), key=lambda execution: execution.id):
            for context in store.get_contexts_by_execution(execution.id):
                if context.id in nodes:
                    state = metadata_store_pb2.Execution.State.Name(execution.last_known_state)
                    out.setdefault(nodes[context.id], []).append(state)
        return out

    def artifacts(self, kind):
        """Live artifacts of a type in the metadata store."""
        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = str(self.run / "metadata.sqlite")
        return [
            artifact
            for artifact in metadata_store.MetadataStore(config).get_artifacts_by_type(kind)
            if artifact.state == metadata_store_pb2.Artifact.LIVE
        ]

    def versions(self):
        return sorted(path.name for path in (self.run / "serving" / "shelfwise").iterdir())


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop whose first run was killed in CandidateIndex and whose second one completed."""
    shop = Shop(tmp_path_factory.mktemp("e2e"))
    shop.kill_in("CandidateIndex")
    assert not (shop.run / "serving").exists(), "a killed run must not have pushed"
    shop.first = shop.states()
    done = shop.go()
    assert done.returncode == 0, done.stdout + done.stderr
    return shop


def test_killed_run_resumes_where_it_was(shop):
    for name in BEFORE_KILL:
        assert shop.first[name] == ["COMPLETE"], name
    assert shop.first["CandidateIndex"] == ["RUNNING"]
    assert not set(AFTER_KILL[1:] + BLESSING) & set(shop.first)
    states = shop.states()
    for name in BEFORE_KILL:
        assert states[name][:2] == ["COMPLETE", "CACHED"], name
    assert states["CandidateIndex"][:2] == ["CANCELED", "COMPLETE"]
    for name in [*AFTER_KILL[1:], *BLESSING]:
        assert states[name][0] == "COMPLETE", name
    # models: text and query encoder, towers, ranker, servable; nothing of the killed component is left
    assert len(shop.artifacts("Model")) == 5
    assert len(shop.artifacts("components.CandidateIndex")) == 1


def test_summary_and_report(shop):
    summary = shop.summary()
    stages = {stage["name"]: stage for stage in summary["stages"]}
    assert set(stages) == {*BEFORE_KILL, *AFTER_KILL, *BLESSING}
    assert all(stages[name]["cached"] for name in BEFORE_KILL)
    assert summary["blessed"] is True
    assert summary["pushed_version"] == shop.versions()[0]
    assert 0 < summary["peak_memory_bytes"] < 8 * 2**30
    for system in (summary["metrics"]["funnel"], *summary["metrics"]["baselines"].values()):
        for task in ("all", "novel"):
            assert 0 <= system[task]["ndcg@10"] <= 1
            assert system[task]["recall@100"] >= system[task]["recall@10"]
    assert set(summary["metrics"]["baselines"]) == {"popularity", "popularity_recent", "personal_frequency"}
    page = (shop.run / "report.html").read_text()
    for text in ("popularity recent", "RetrievalTrainer", "ndcg@10"):
        assert text in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "src=" not in page


def test_retrieval_benchmark_of_the_run(shop, tmp_path):
    """It reads the run's artifacts and scores by the protocol of the run's own evaluation."""
    command = [sys.executable, "benchmarks/retrieval.py", "--config", shop.config, "--run", shop.run]
    command += ["--window", "test", "--json", tmp_path / "figures.json"]
    command += ["--systems", "popularity,personal frequency,EASE"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())["tasks"]
    evaluated = shop.summary()["metrics"]["baselines"]
    for ours, name in (("popularity", "popularity"), ("personal frequency", "personal_frequency")):
        for metric in ("ndcg@10", "recall@100"):
            found = figures["all"]["systems"][ours][metric]
            assert found == pytest.approx(evaluated[name]["all"][metric], abs=2e-3)
    for task in ("all", "novel"):
        systems = figures[task]["systems"]
        assert systems["union of the sources"]["recall@500"] > 0
        for source in ("co_purchased", "two_tower", "trending"):
            assert 0 <= systems[source]["recall@20"] <= systems[source]["recall@500"] <= 1
            assert 0 <= systems[f"union without {source}"]["recall@500"] <= 1
        assert systems["EASE"]["seconds"] > 0
    assert figures["novel"]["systems"]["buy_again"]["recall@500"] == 0
    assert "cold items" in done.stdout


def test_funnel_benchmark_of_the_run(shop, tmp_path):
    """Scored again from the lists in its artifact, the funnel has the figures of its evaluation."""
    command = [sys.executable, "benchmarks/funnel.py", "--config", shop.config, "--run", shop.run]
    command += ["--window", "test", "--no-baselines", "--json", tmp_path / "figures.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    tasks = json.loads((tmp_path / "figures.json").read_text())["test"]["tasks"]
    for task, evaluated in shop.summary()["metrics"]["funnel"].items():
        for metric in ("ndcg@10", "recall@100"):
            assert tasks[task]["funnel"][metric] == pytest.approx(evaluated[metric], abs=1e-6)


def test_other_benchmarks_read_the_run(shop, tmp_path):
    """Re-ranking costs and diversifies, and the time of a request goes somewhere."""
    of_run = ["--config", shop.config, "--run", shop.run]
    reranking = ["benchmarks/reranking.py", *of_run, "--json", tmp_path / "figures.json"]
    commands = [[*reranking, "--row", "diversity 1"]]  # each row is traced for seconds
    commands += [["benchmarks/latency.py", *of_run, "--requests", "2", "--rounds", "1"]]
    running = [
        subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    printed = [process.communicate(timeout=1800)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    found = json.loads((tmp_path / "figures.json").read_text())
    for task in ("all", "novel"):
        none, most = (found[f"{task}/{name}"] for name in ("none", "diversity 1"))
        assert most["distance"] > none["distance"]
        assert none["ndcg@10"] > 0
    pattern = r"^ (reasons|as the server runs it) .*? ([0-9.]+) +[0-9.]+ +[0-9.]+ *$"
    times = dict(re.findall(pattern, printed[1], re.MULTILINE))
    assert len(times) == 2
    assert all(float(time) > 0 for time in times.values())


def test_pushed_model_recommends_over_grpc(shop, tmp_path):
    version = int(shop.versions()[0])
    server = Server(shop.run / "serving" / "shelfwise", tmp_path / "server")
    try:
        server.wait_serving(version)
        histories = shop.run / "histories.parquet"
        user = pd.read_parquet(histories)["user_id"][0]
        call = [sys.executable, "-m", "serving.client", "recommend", "--user", user, "--k", "5"]
        call += ["--address", server.address, "--histories", str(histories)]
        table = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=1800)
        assert table.returncode == 0, table.stderr
        listed = subprocess.run([*call, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=1800)
        items = json.loads(listed.stdout)
        rows = items["recommendations"] if isinstance(items, dict) else items
        assert len({row["item_id"] for row in rows}) == 5
        products = pd.read_parquet(Path(shop.config.parent / "data" / "products.parquet"))
        assert {row["item_id"] for row in rows} <= set(products["product_id"].astype(str))
        scores = [row["score"] for row in rows]
        assert scores == sorted(scores, reverse=True)
        assert all(row["source"] and row["reason"] and row["item_text"] for row in rows)
    finally:
        server.close()


@pytest.fixture(scope="module")
def model(shop):
    """The model that the first complete run pushed."""
    return cold_start.Model.of_run(shop.run, load(shop.config))


@pytest.mark.parametrize("check", cold_start.CHECKS, ids=lambda check: check.__name__)
def test_cold_start(model, check):
    print(check(model))


def test_some_places_explore_new_items(model):
    bought = model.past["item_id"].value_counts()
    shown = model.recommend([(bought.index[0], 2.0)])
    places = [place for place, source in enumerate(shown["source"]) if source == "exploration"]
    assert places == [9, 19]
    for place in places:
        assert bought.get(shown["item_id"][place], 0) < 3
        assert shown["reason"][place].startswith("New in ")


@pytest.mark.skipif(
    not os.environ.get("SHELFWISE_TEST_COMPILED"),
    reason="some hundred processes: `make test-compiled` runs it",
)
def test_the_compiled_spec_pushes_an_equal_model(shop, tmp_path):
    """Each task by its container's command; the run is killed once, resumed, and cached the next time."""
    bucket = tmp_path / "bucket"
    command = [sys.executable, "-m", "kubeflow.runner", "--config", str(shop.config)]
    command += ["--run-local", str(bucket)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if re.search(r"DataQualityGate +succeeded", line):
                process.send_signal(signal.SIGKILL)
    runs = []
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stdout + done.stderr
        record = max(bucket.glob("artifacts/small-shop/*/run.json"), key=lambda path: path.stat().st_mtime)
        tasks = json.loads(record.read_text())["tasks"]
        runs.append({name: task["state"] for name, task in tasks.items()})
    resumed, cached = runs
    always = {"CatalogDataVersion", "EventDataVersion", "BaselineModel", "WarmStartModel"}
    assert set(resumed) == {*always, *BEFORE_KILL, *AFTER_KILL, *BLESSING}
    assert all(resumed[name] == "cached" for name in DATA)  # the gate came after all of them
    assert resumed["Pusher"] == "succeeded"
    assert {name for name, state in cached.items() if state != "cached"} == always
    ours = pushed.Pushed.of(bucket / "serving" / "shelfwise")
    theirs = pushed.Pushed.of(shop.run / "serving" / "shelfwise")
    assert ours.signatures == theirs.signatures
    assert ours.ops == theirs.ops
    assert ours.figures == pytest.approx(theirs.figures, abs=5e-3)


def test_second_run_is_all_cached_also_by_the_tfx_command_line(shop):
    tfx = str(Path(sys.executable).parent / "tfx")

    def call(*arguments):
        return subprocess.run(
            [tfx, *arguments], cwd=ROOT, env=shop.environment(), capture_output=True, text=True, timeout=600
        )

    created = call("pipeline", "create", "--engine=local", "--pipeline_path=pipeline/local_runner.py")
    assert created.returncode == 0, created.stdout + created.stderr
    versions, before = shop.versions(), shop.states()
    ran = call("run", "create", "--engine=local", f"--pipeline_name={NAME}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    after = shop.states()
    # the file's own settings again: every component has done this before
    for name in [*BEFORE_KILL, *AFTER_KILL, *BLESSING]:
        assert after[name][len(before[name]) :] == ["CACHED"], name
    assert all(stage["cached"] for stage in shop.summary()["stages"])
    assert shop.versions() == versions
    assert shop.summary()["blessed"] is True


def test_changed_ranker_reruns_only_what_depends_on_it_and_meets_the_last_model(shop):
    before = shop.states()
    done = shop.go("--set", "ranking.epochs=21")
    assert done.returncode == 0, done.stdout + done.stderr
    after = shop.states()
    for name in [
        *BEFORE_KILL,
        "CandidateIndex",
        "CandidateSampler",
    ]:  # search learns from the ranker's logits
        assert after[name][len(before[name]) :] == ["CACHED"], name
    for name in ["RankingTrainer", "SearchTrainer", "ServableBuilder", *BLESSING]:
        assert after[name][len(before[name]) :] == ["COMPLETE"], name
    assert any("last blessed" in reason for reason in _metrics(shop)["reasons"])
    first, second = registry.read(str(shop.run / "serving" / "shelfwise"))
    assert (first.record.baseline, second.record.baseline) == (None, str(first.version))
    figures = {"all/ndcg@10", "novel/ndcg@10", "auc", "binary_crossentropy"}
    assert set(second.record.standing) == figures
    searched = {"search/known_item/mrr", "search/personal/ndcg@10"}
    assert set(second.record.figures) == {*figures, *searched, "ece"}
    assert set(first.record.standing.values()) == {1.0}
    assert first.record.learned_until == second.record.learned_until


def test_index_alone_is_rebuilt_for_another_catalogue(shop, tmp_path):
    """Products come and go without any training; the pushed model knows the new catalogue."""
    trained = [
        "TextEncoderTrainer",
        "RetrievalTrainer",
        "CandidateSampler",
        "RankingTrainer",
        "SearchTrainer",
    ]
    data = shop.config.parent / "data"
    products, events = (pd.read_parquet(data / f"{name}.parquet") for name in ("products", "transactions"))
    withdrawn, model = events["product_id"].value_counts().index[:2]
    added = products[products["product_id"] == model].assign(product_id=999000001)
    products = pd.concat([products[products["product_id"] != withdrawn], added], ignore_index=True)
    products.to_parquet(data / "products_today.parquet", index=False)

    before, versions = shop.states(), shop.versions()
    settings = ("ranking.epochs=21", "items.path=products_today.parquet", "candidates.index=ivf")
    done = shop.go("--refresh-index", *(f"--set={setting}" for setting in settings))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 items that no model learned from" in done.stdout
    after = shop.states()
    for name in [*trained, *TRANSFORMS, "EventExampleGen"]:
        assert after[name][len(before[name]) :] == ["CACHED"], name
    for name in ["CatalogExampleGen", "CandidateIndex", "ServableBuilder", *BLESSING]:
        assert after[name][len(before[name]) :] == ["COMPLETE"], name
    assert len(shop.versions()) == len(versions) + 1

    withdrawn = str(withdrawn)
    server = Server(shop.run / "serving" / "shelfwise", tmp_path / "server")
    try:
        server.wait_serving(int(shop.versions()[-1]))
        with Client(server.address) as client:
            like_new, like_old = (client.similar(item, k=200) for item in ("999000001", withdrawn))
            recommended = client.recommend("nobody", k=200)
            new, old = client.rank("nobody", ["999000001", withdrawn])
    finally:
        server.close()
    assert withdrawn not in {row.item_id for row in [*like_new, *like_old, *recommended]}
    assert {row.source for row in like_new} == {"similar"}
    assert {row.source for row in like_old} == {"trending"}  # it is unknown now
    assert new.score > 0
    assert old.score == 0


def test_towers_of_later_data_start_from_the_last_blessed_model_and_a_bad_one_is_not_pushed(shop):
    """Three weeks to test on and to label: the towers learn two weeks more. No ranker reaches such an AUC."""
    versions = shop.versions()
    days = ("--set", "split.test_days=21", "--set", "ranking.window_days=21")
    done = shop.go(*days, "--set", "quality.min_auc=0.9999")
    assert done.returncode == 0, done.stdout + done.stderr
    stages = {stage["name"]: stage for stage in shop.summary()["stages"]}
    assert "warm start with" in stages["RetrievalTrainer"]["found"], stages["RetrievalTrainer"]
    assert stages["WarmStartModel"]["found"].startswith("pushed version ")
    assert shop.summary()["blessed"] is False
    assert shop.versions() == versions
    assert "not blessed" in done.stdout


def _metrics(shop):
    newest = max(
        (shop.run / "artifacts/FunnelEvaluator/evaluation").iterdir(), key=lambda path: int(path.name)
    )
    return json.loads((newest / "metrics.json").read_text())
