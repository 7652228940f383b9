"""Fine-tuning of the text encoder with a small BERT: losses against numpy, XLA, replicas, LoRA."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.text import training as text_training
from models.text.batches import LoweredTexts, mask_pieces
from models.text.encoder import TextEncoder
from models.text.groups import CONTEXT, MEMBER, NEGATIVE, TARGET, Groups
from models.text.losses import GroupContrast, MaskedLanguageModel
from models.text.strategy import distributed, make_strategy
from schema.errors import ConfigError
from tests.shops import tiny_shop

LENGTH = 8
TEXTS = np.asarray([f"{kind} {number}" for kind in tiny_shop.KINDS for number in range(3)] + ["no"], object)
# two pairs, a household with two contexts and two targets, three negatives
ROLE = [MEMBER] * 4 + [CONTEXT] * 2 + [TARGET] * 2 + [NEGATIVE] * 3 + [MEMBER]
GROUP = [1, 1, 2, 2, 3, 3, 3, 3, 0, 0, 0, 4]
TEXT = [0, 1, 0, 5, 7, 8, 9, 10, 9, 11, 12, 2]  # 0 twice; 9 is a target and a negative; 2 has no partner
# the texts that are encoded, in another order and one of them in two groups
DISTINCT = [2, 12, 11, 9, 10, 8, 7, 5, 0, 1, 0, 3]
PLACE = [8, 9, 10, 7, 6, 5, 3, 4, 3, 2, 1, 0]


def make(mode="full", layers=2, trained_layers=0):
    preset = tiny_shop.bert_preset(layers)
    return TextEncoder(preset, LENGTH, mode=mode, trained_layers=trained_layers, dropout=0.0)


@functools.cache
def frozen(trained_layers=0):
    """An encoder that no test changes."""
    return make("frozen", trained_layers=trained_layers)


def batch_of(encoder):
    ids = encoder.tokenize(tf.constant(TEXTS[DISTINCT].tolist()))
    values = {"text": DISTINCT, "place": PLACE, "group": GROUP, "role": ROLE}
    return {name: tf.constant(value, tf.int32) for name, value in values.items()} | {
        "ids": ids,
        "hidden": encoder.lower(ids),
    }


def alone(model, batch):
    """The loss as one replica computes it."""
    return float(tf.distribute.get_strategy().run(model.loss, args=(batch,)))


def naive_loss(vectors, scale):
    losses = []
    for place, role in enumerate(ROLE):
        if role not in (MEMBER, TARGET):
            continue
        mine = [
            other
            for other in range(len(ROLE))
            if other != place and GROUP[other] == GROUP[place] and ROLE[other] in (MEMBER, CONTEXT)
        ]
        if not mine:
            continue
        query = vectors[mine].sum(0)
        query /= np.linalg.norm(query)
        wanted = MEMBER if role == MEMBER else NEGATIVE
        negatives = [
            other
            for other in range(len(ROLE))
            if ROLE[other] == wanted and TEXT[other] != TEXT[place] and other not in (place, *mine)
        ]
        logits = scale * vectors[[place, *negatives]] @ query
        losses.append(np.log(np.exp(logits).sum()) - logits[0])
    assert len(losses) == 6
    return np.mean(losses)


@pytest.mark.parametrize("temperature", [0.05, 0.3])
def test_loss_equals_its_definition(temperature):
    encoder = make()
    model = GroupContrast(encoder, temperature)
    vectors = encoder(tf.constant(TEXTS[TEXT].tolist())).numpy().astype(np.float64)
    assert alone(model, batch_of(encoder)) == pytest.approx(naive_loss(vectors, 1 / temperature), rel=1e-4)


def test_temperature_is_learned_and_clipped():
    encoder = make(layers=1)
    model = GroupContrast(encoder, 0.0101)
    step = text_training.make_step(
        model, keras.optimizers.SGD(1000.0), tf.distribute.get_strategy(), jit_compile=False
    )
    assert model.temperature == pytest.approx(0.0101)
    step(batch_of(encoder))
    assert model.temperature in (pytest.approx(0.01), pytest.approx(1.0))


def trained(jit_compile, steps=3):
    keras.utils.set_random_seed(1)
    encoder = make(layers=1)
    model = GroupContrast(encoder, 0.1)
    optimizer = text_training.make_optimizer(3e-2, 20)
    step = text_training.make_step(model, optimizer, tf.distribute.get_strategy(), jit_compile)
    batch = batch_of(encoder)
    losses = [float(step(batch)) for _ in range(steps)]
    return losses, [weight.numpy() for weight in model.trained]


@pytest.mark.slow  # XLA takes its time
def test_xla_compiles_the_step_to_the_same_loss_and_weights():
    plain, compiled = trained(False), trained(True)
    assert plain[0][2] < plain[0][0] - 0.05
    np.testing.assert_allclose(plain[0], compiled[0], rtol=1e-4)
    for one, other in zip(plain[1], compiled[1], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


_REPLICAS = """
import itertools, json
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from models.text import training as text_training
from models.text.batches import mask_pieces
from models.text.losses import GroupContrast, MaskedLanguageModel
from models.text.strategy import distributed
from tests.models.text import test_training as here
strategies = {
    "one": tf.distribute.get_strategy(),
    "two": tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]),
}
assert strategies["two"].num_replicas_in_sync == 2
base = here.make("frozen", layers=1)
found = {}
for mode, (name, strategy) in itertools.product(("full", "lora"), strategies.items()):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        encoder = here.make(mode, layers=1)
        model = GroupContrast(encoder, 0.1)
        optimizer = text_training.make_optimizer(1e-2, 20)
        step = text_training.make_step(model, optimizer, strategy, False)
        if mode == "full":  # LoRA's steps differ in the weights they change only
            masked = MaskedLanguageModel(encoder)
            optimizer = text_training.make_optimizer(1e-2, 20)
            masked_step = text_training.make_step(masked, optimizer, strategy, False)
    batch = here.batch_of(base)
    losses = [float(step(distributed(batch, strategy))) for _ in range(3)]
    if mode == "full":
        hidden = mask_pieces(batch["ids"], base.vocabulary, tf.constant([1, 2]))
        hidden |= {"hidden": base.lower(hidden["ids"])}
        losses += [float(masked_step(distributed(hidden, strategy))) for _ in range(2)]
    vectors = encoder.merged()(tf.constant(here.TEXTS.tolist())).numpy().tolist()
    found[f"{mode} {name}"] = {"losses": losses, "vectors": vectors, "temperature": model.temperature}
print("\\n" + json.dumps(found))
here.tiny_shop.remove_folder()
"""


@pytest.mark.slow  # a process of its own: logical devices are made before TensorFlow starts
def test_two_replicas_train_as_one_with_the_negatives_of_the_whole_batch():
    root = Path(__file__).parents[3]
    process = subprocess.run(
        [sys.executable, "-c", _REPLICAS], capture_output=True, text=True, cwd=root, timeout=1800
    )
    assert process.returncode == 0, process.stderr[-3000:]
    found = json.loads(process.stdout.strip().splitlines()[-1])
    for mode in ("full", "lora"):
        one, two = found[f"{mode} one"], found[f"{mode} two"]
        assert one["losses"][0] != pytest.approx(one["losses"][2], rel=1e-3)
        np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-4)
        np.testing.assert_allclose(two["vectors"], one["vectors"], atol=2e-3)
        assert two["temperature"] == pytest.approx(one["temperature"], rel=1e-4)


def test_a_batch_that_the_replicas_cannot_share_is_a_config_error():
    class Three:
        num_replicas_in_sync = 3

    with pytest.raises(ConfigError, match="16 rows of 'ids' cannot be divided by the 3 replicas"):
        distributed({"ids": tf.zeros([16, 2])}, Three())


@pytest.mark.parametrize("name", ["none", "one_device"])
def test_strategies_of_one_machine(name):
    assert make_strategy(name).num_replicas_in_sync == 1


def test_a_strategy_that_cannot_start_is_a_config_error():
    with pytest.raises(ConfigError, match="text_encoder.strategy: 'tpu' cannot start here"):
        make_strategy("tpu")


@pytest.mark.parametrize(
    ("mode", "trained_layers", "fixed", "count"),
    [("full", 0, 0, 2 * 16), ("full", 1, 1, 16), ("lora", 5, 0, 2 * 18), ("lora", 1, 1, 18)],
)
def test_training_changes_the_top_layers_and_nothing_else(mode, trained_layers, fixed, count):
    encoder = make(mode, trained_layers=trained_layers)
    assert encoder.fixed_layers == fixed
    # a layer has 6 kernels (of which LoRA trains two factors each), 6 biases and 2 norms
    assert len(encoder.trained) == count
    before = {id(weight): weight.numpy() for weight in encoder.backbone.weights}
    model = GroupContrast(encoder, 0.1)
    step = text_training.make_step(model, keras.optimizers.SGD(0.1), tf.distribute.get_strategy(), False)
    batch = batch_of(encoder)
    step(batch)
    step(batch)  # the first step of LoRA changes one of its two factors only
    names = {id(weight) for weight in encoder.trained}
    changed = {
        id(weight) for weight in encoder.backbone.weights if (weight.numpy() != before[id(weight)]).any()
    }
    assert changed <= names
    assert len(changed) > 0.8 * len(names)  # a softmax does not see the key's bias


@pytest.mark.parametrize("mode", [pytest.param("full", marks=pytest.mark.slow), "lora"])
def test_the_merged_encoder_gives_the_trained_ones_vectors(mode):
    encoder = make(mode, trained_layers=1)
    before = encoder(tf.constant(TEXTS.tolist())).numpy()
    model = GroupContrast(encoder, 0.1)
    step = text_training.make_step(model, keras.optimizers.Adam(0.05), tf.distribute.get_strategy(), False)
    batch = batch_of(encoder)
    for _ in range(3):
        step(batch)
    after = encoder(tf.constant(TEXTS.tolist())).numpy()
    assert np.abs(after - before).max() > 0.1
    merged = encoder.merged()
    assert not merged.trained
    assert not any("lora" in weight.path for weight in merged.backbone.weights)
    np.testing.assert_allclose(merged(tf.constant(TEXTS.tolist())), after, atol=1e-4)


def test_a_frozen_encoder_has_nothing_to_train():
    assert frozen().trained == []


# --- masked language model ----------------------------------------------------------------


def test_pieces_are_hidden_by_the_rules():
    encoder = frozen()
    texts = ["bread milk apple pear roll no"] * 3000 + ["no"] * 10 + [""]
    ids = encoder.tokenize(tf.constant(texts))
    batch = {
        name: value.numpy()
        for name, value in mask_pieces(ids, encoder.vocabulary, tf.constant([3, 4])).items()
    }
    ids = ids.numpy()
    assert batch["position"].shape == (3011, 2)  # 15 % of 8
    weight = batch["weight"]
    assert (weight[:3000, 0] == 1).all()
    assert (weight[:3000, 1] == 0).all()  # 15 % of its own 6 pieces is 1
    assert weight[3000:3010].sum() == 10
    assert weight[3010].sum() == 0  # nothing to hide
    rows = np.arange(3000)
    at = batch["position"][:3000, 0]
    assert ((at > 0) & (at < 7)).all()
    assert np.bincount(at, minlength=7)[1:].min() > 400  # every word may be hidden
    np.testing.assert_array_equal(batch["label"][:3000, 0], ids[rows, at])
    new = batch["ids"][rows, at]
    masked = (new == encoder.vocabulary.index("[MASK]")).mean()
    assert 0.76 < masked < 0.84
    assert 0.07 < (new == ids[rows, at]).mean() < 0.14
    untouched = batch["ids"].copy()
    untouched[rows, at] = ids[rows, at]
    places = batch["position"][3000:3010, 0]
    untouched[np.arange(3000, 3010), places] = ids[np.arange(3000, 3010), places]
    np.testing.assert_array_equal(untouched, ids)


def test_masked_loss_equals_its_definition_and_falls():
    encoder = make(layers=1)
    model = MaskedLanguageModel(encoder)
    ids = encoder.tokenize(tf.constant(TEXTS.tolist()))
    masked = mask_pieces(ids, encoder.vocabulary, tf.constant([1, 1]))
    batch = masked | {"hidden": encoder.lower(masked["ids"])}
    logits = model._head(
        encoder.upper(batch["hidden"], batch["ids"]), mask_positions=batch["position"]
    ).numpy()
    share = np.exp(logits - logits.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    right = np.take_along_axis(share, batch["label"].numpy()[..., None], 2)[..., 0]
    weight = batch["weight"].numpy()
    assert alone(model, batch) == pytest.approx(-(np.log(right) * weight).sum() / weight.sum(), rel=1e-4)
    step = text_training.make_step(model, keras.optimizers.Adam(0.01), tf.distribute.get_strategy(), False)
    losses = [float(step(batch)) for _ in range(15)]
    assert losses[-1] < losses[0] - 0.5


def test_a_vocabulary_without_mask_is_a_config_error():
    with pytest.raises(ConfigError, match="no \\[MASK\\] piece"):
        mask_pieces(tf.zeros([2, 3], tf.int32), ["[PAD]", "[CLS]", "[SEP]"], tf.constant([0, 0]))


# --- early stopping, batches -------------------------------------------------------------


def test_fit_restores_the_best_weights_and_stops():
    weight = keras.Variable(0.0)
    scores = {0: 0.2, 2: 0.5, 4: 0.4, 6: 0.3, 8: 0.9}

    def step(batch):
        weight.assign(weight + 1)
        return tf.convert_to_tensor(weight) * 10

    def validate():
        return {"score": scores[int(weight.numpy())]}

    found = text_training.fit(step, [{}] * 9, [weight], validate, "score", every=2, patience=2)
    assert [entry["step"] for entry in found.history] == [0, 2, 4, 6]
    assert found.best == {"step": 2.0, "loss": 15.0, "score": 0.5}
    assert weight.numpy() == 2


def test_fit_keeps_the_weights_of_the_start_if_nothing_is_better():
    weight = keras.Variable(7.0)

    def step(batch):
        weight.assign(0.0)
        return tf.constant(1.0)

    found = text_training.fit(
        step, [{}] * 3, [weight], lambda: {"score": float(weight.numpy())}, "score", every=1, patience=5
    )
    assert found.best["step"] == 0
    assert weight.numpy() == 7
    assert len(found.history) == 4


@pytest.mark.parametrize("trained_layers", [0, 1])
def test_kept_layers_give_the_encoders_vectors(trained_layers):
    encoder = frozen(trained_layers)
    used = np.arange(len(TEXTS)) != 3
    known = LoweredTexts(encoder, TEXTS, used, batch_size=4)
    asked = np.asarray([5, 18, 0, 4, 5])
    expected = encoder(tf.constant(TEXTS[asked].tolist()))
    np.testing.assert_allclose(known.encode(encoder, asked), expected, atol=1e-5)


def groups(steps=2):
    return Groups(*(np.asarray([values] * steps, np.int32) for values in (DISTINCT, PLACE, GROUP, ROLE)))


@pytest.mark.parametrize("fixed_shape", [False, True])
def test_batches_hold_what_the_encoder_makes_of_the_texts(fixed_shape):
    encoder = frozen(1)
    known = LoweredTexts(encoder, TEXTS, np.ones(len(TEXTS), bool), 8)
    got = list(known.group_batches(groups(), 0.0, 1, fixed_shape))
    assert len(got) == 2
    expected = batch_of(encoder)
    longest = LENGTH if fixed_shape else expected["ids"].shape[1]
    for batch in got:
        assert set(batch) == set(expected)
        assert batch["ids"].shape == (len(DISTINCT), longest)
        for name in ("text", "place", "group", "role"):
            np.testing.assert_array_equal(batch[name], expected[name])
        np.testing.assert_array_equal(batch["ids"][:, : expected["ids"].shape[1]], expected["ids"])
        real = expected["ids"].numpy() > 0
        hidden = batch["hidden"].numpy()[:, : real.shape[1]]
        np.testing.assert_allclose(hidden[real], expected["hidden"].numpy()[real], atol=1e-5)


def test_noise_rewrites_members_and_their_lower_layers():
    encoder = frozen(1)
    known = LoweredTexts(encoder, TEXTS, np.ones(len(TEXTS), bool), 8)
    clean = batch_of(encoder)["ids"].numpy()
    rewritten = np.zeros(len(DISTINCT), bool)
    batches = list(known.group_batches(groups(10), 0.9, 1, True))
    fresh = encoder.lower(tf.concat([batch["ids"] for batch in batches], 0)).numpy()
    for batch, expected in zip(batches, np.split(fresh, len(batches)), strict=True):
        ids = batch["ids"].numpy()
        here = (ids[:, : clean.shape[1]] != clean).any(1)
        rewritten |= here
        np.testing.assert_array_equal(batch["text"], DISTINCT)
        np.testing.assert_allclose(batch["hidden"].numpy()[ids > 0], expected[ids > 0], atol=1e-5)
    members = np.asarray(PLACE)[np.asarray(ROLE) == MEMBER]
    np.testing.assert_array_equal(rewritten, np.isin(np.arange(len(DISTINCT)), members))
