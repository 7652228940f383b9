"""The Evaluator on labelled lists, and both gates before a spoiled model: real executors, tiny shop."""

import functools
import os

import numpy as np
import pytest
import tensorflow as tf

from components.common import artifacts, registry
from components.common.candidate_lists import padded
from components.evaluator import executor, extractors
from components.funnel_evaluator import executor as funnel_executor
from components.servable_builder import executor as servable_executor
from models.data import example_io
from pipeline.stages import evaluation
from schema import names as F
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, WINDOWS

pytestmark = pytest.mark.slow


@functools.cache
def spoiled():
    """A servable whose ranker has the negated weights of the purchase head, and of the trees."""
    built = tiny_shop.built()
    ranker = tf.saved_model.load(artifacts.model_folder(built.ranking))
    heads = [part for part in ranker.parameters if part.name in ("purchase/kernel:0", "leaves:0")]
    assert len(heads) == 2
    for head in heads:
        head.assign(-head)
    folder = tiny_shop.folder()
    tf.saved_model.save(ranker, str(folder / "spoiled_ranker"))
    servable_executor.run(
        built.factory.at(CUTOFF),
        tiny_shop.items(),
        str(folder / "spoiled_ranker"),
        artifacts.model_folder(built.text_encoder),
        tiny_shop.past_log(),
        CUTOFF,
        CONFIG,
        str(folder / "spoiled"),
        str(folder / "spoiled_histories"),
    )
    return str(folder / "spoiled")


@functools.cache
def evaluated(model, baseline, standing=()):
    """(blessing artifact, TFMA's result) of a servable's artifact folder, against another's SavedModel."""
    import tensorflow_model_analysis as tfma
    from tfx.dsl.components.base import base_beam_executor
    from tfx.types import artifact_utils, standard_artifacts
    from tfx.utils import json_utils, proto_utils

    against = "_".join(f"{figure}_{value}" for figure, value in standing)
    names = (os.path.basename(model), os.path.basename(baseline or ""), against)
    folder = tiny_shop.folder() / "_".join(["evaluation", *names])
    examples = standard_artifacts.Examples()
    examples.uri = tiny_shop.built().candidates
    examples.split_names = artifact_utils.encode_split_names(["train", "eval", "full"])
    servable = standard_artifacts.Model()
    servable.uri = model
    last, config = None, evaluation.eval_config(CONFIG)
    if baseline:
        del config.slicing_specs[1:]  # two models are compared over all; the slices are most of TFMA's work
        # a pushed version is the SavedModel itself
        last = registry.Reference(folder=artifacts.model_folder(baseline), standing=dict(standing))
    outputs = {
        "evaluation": standard_artifacts.ModelEvaluation(),
        "blessing": standard_artifacts.ModelBlessing(),
    }
    for name, artifact in outputs.items():
        artifact.uri = str(folder / name)
    context = base_beam_executor.BaseBeamExecutor.Context(
        beam_pipeline_args=["--runner=FnApiRunner"], tmp_dir=str(folder / "tmp"), unique_id="1"
    )
    executor.Executor(context).Do(
        {"examples": [examples], "model": [servable]},
        {name: [artifact] for name, artifact in outputs.items()},
        {
            "eval_config": proto_utils.proto_to_json(config),
            "example_splits": json_utils.dumps(["eval"]),
            "module_path": extractors.__name__,
            "baseline": registry.write_reference(last),
        },
    )
    return outputs["blessing"], tfma.load_eval_result(outputs["evaluation"].uri)


def is_blessed(blessing):
    return blessing.get_int_custom_property("blessed") == 1


def figures(result):
    """slice ("department: dairy", "" for all) -> metric -> value."""
    out = {}
    for key, outputs in result.slicing_metrics:
        metrics = {
            name: value["doubleValue"] for name, value in outputs[""][""].items() if "doubleValue" in value
        }
        out[", ".join(f"{column}: {value}" for column, value in key)] = metrics
    return out


@functools.cache
def rows():
    """Every candidate of the evaluation lists: label, weight, slices and what `rank` says."""
    table = example_io.read_table(example_io.split_folder(tiny_shop.built().candidates, "eval"))
    weight = padded(table, F.CANDIDATE_WEIGHT, 0.0)
    real = weight > 0
    out = {"label": padded(table, F.LABEL, 0.0)[real], "weight": weight[real]}
    for name in ("department", "price_band", "task"):
        values = padded(table, F.SLICE_PREFIX + name, "")
        out[name] = np.broadcast_to(values, real.shape)[real]
    return out


def test_every_candidate_is_a_row_with_its_items_slices():
    _, result = evaluated(tiny_shop.built().servable, None)
    found, truth = figures(result), rows()
    # TFMA counts weights: a sampled candidate stands for several
    assert len(truth["label"]) < truth["weight"].sum()
    assert found[""]["example_count"] == pytest.approx(truth["weight"].sum(), rel=1e-5)
    for name in ("department", "price_band", "task"):
        values = set(truth[name])
        assert {key for key in found if key.startswith(f"slice_{name}: ")} == {
            f"slice_{name}: {value}" for value in values
        }
        assert len(values) >= 2
        for value in values:
            mine = truth[name] == value
            got = found[f"slice_{name}: {value}"]
            assert got["example_count"] == pytest.approx(truth["weight"][mine].sum(), rel=1e-5)
            # weighted by the inverse sampling probability: the share among all candidates
            expected = np.average(truth["label"][mine], weights=truth["weight"][mine])
            assert got["mean_label"] == pytest.approx(expected, rel=1e-4)


def test_a_good_model_is_blessed():
    blessing, result = evaluated(tiny_shop.built().servable, None)
    assert is_blessed(blessing)
    line = registry.line_of(blessing)
    assert line.figures == pytest.approx(
        {name: figures(result)[""][name] for name in ("auc", "binary_crossentropy")}
    )
    assert line.standing == {"auc": 1.0, "binary_crossentropy": 1.0}
    assert figures(result)[""]["auc"] > CONFIG.quality.min_auc


def test_a_spoiled_model_passes_neither_gate(tmp_path):
    """Negated weights: the Evaluator refuses it, and so does FunnelEvaluator on its own."""
    good = tiny_shop.built().servable
    blessing, result = evaluated(spoiled(), good)
    assert not is_blessed(blessing)
    assert registry.line_of(blessing).standing["auc"] == pytest.approx(
        figures(result)[""]["auc"] / figures(evaluated(good, None)[1])[""]["auc"], rel=1e-4
    )
    assert figures(result)[""]["auc"] < 0.5

    def judged(model, name):
        return funnel_executor.run(
            log=tiny_shop.log(),
            windows=WINDOWS,
            model_folder=artifacts.model_folder(model),
            last=registry.Reference(folder=artifacts.model_folder(good)),
            ranking_blessed=True,
            users=None,
            users_uri=None,
            candidates=CONFIG.candidates,
            quality=CONFIG.quality.model_copy(update={"must_beat": ["popularity"]}),
            lists=example_io.split_folder(tiny_shop.built().candidates, "full"),
            output=str(tmp_path / name),
        )

    verdict = judged(spoiled(), "spoiled")
    assert verdict["blessed"] is False
    # first purchases of the tiny shop follow chance and popularity alone: what the ranker learned
    # about them is noise, and its negation may be no worse
    about = [reason for reason in verdict["reasons"] if "task all " in reason]
    assert any("falls behind the last blessed" in reason for reason in about)
    assert any("<= popularity" in reason for reason in verdict["reasons"])
    again = judged(good, "good")
    assert all("keeps up" in reason for reason in again["reasons"] if "last blessed" in reason)


def test_a_worse_baseline_is_no_hindrance():
    """Thresholds on changes look in one direction only."""
    blessing, _ = evaluated(tiny_shop.built().servable, spoiled())
    assert is_blessed(blessing)
    assert registry.line_of(blessing).standing == {"auc": 1.0, "binary_crossentropy": 1.0}


def test_a_line_that_has_slipped_may_not_slip_further():
    """Thresholds on a change are those that lead back to the best of the line."""
    last = registry.Reference(folder="17", standing={"auc": 0.985, "binary_crossentropy": 0.99})
    config = evaluation.eval_config(CONFIG)
    tolerance = CONFIG.quality.max_regression
    assert tolerance == 0.02
    held = {
        metric.class_name: metric.per_slice_thresholds[0].threshold.change_threshold.relative.value
        for metric in executor.hold(config, last).metrics_specs[0].metrics
        if metric.per_slice_thresholds
    }
    assert held == {
        "AUC": pytest.approx(0.98 / 0.985 - 1),
        "BinaryCrossEntropy": pytest.approx(1.02 * 0.99 - 1),
    }
    assert config == evaluation.eval_config(CONFIG)
    first = registry.Reference(folder="17")
    assert executor.hold(config, first) == config


def test_the_same_model_again_stands_where_its_baseline_does():
    good = tiny_shop.built().servable
    standing = (("auc", 0.99), ("binary_crossentropy", 0.985))
    blessing, _ = evaluated(good, good, standing)
    assert is_blessed(blessing)
    assert registry.line_of(blessing).standing == pytest.approx(dict(standing))
    assert not blessing.has_custom_property("baseline_model_id")
    assert blessing.get_string_custom_property("baseline_model") == artifacts.model_folder(good)
