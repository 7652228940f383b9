"""Exports the text encoder and encodes the catalogue."""

from __future__ import annotations

import os
import time

import numpy as np
import tensorflow as tf

from components import shop
from models import arrays, text_encoder
from models import features as F
from models.item_table import ItemTable
from pipeline.config import TextEncoder

VECTORS = "text_vectors.npz"


def run(items: ItemTable, config: TextEncoder, output: str) -> str:
    """Writes the encoder as a SavedModel and the vectors of all distinct texts.

    Args:
      items: the catalogue.
      config: which BERT, how long, which type.
      output: folder of the Model artifact; gets `Format-Serving/` (signature
        `serving_default`: `text` string [B] -> `embedding` float32 [B, E]) and
        `text_vectors.npz` (`vectors` float32 [T, E], `index` int32 [V]).

    Returns:
      A line for a person.
    """
    dtype = text_encoder.best_dtype() if config.dtype == "auto" else config.dtype
    encoder = text_encoder.TextEncoder(config.preset, config.sequence_length, dtype)
    encode = tf.function(
        encoder.__call__, input_signature=[tf.TensorSpec([None], tf.string, F.TEXT)], autograph=False
    )
    texts, index = np.unique(items.text.astype(str), return_inverse=True)
    started = time.monotonic()
    vectors = text_encoder.encode_all(encode, texts.astype(object), config.batch_size)
    seconds = time.monotonic() - started
    arrays.save(os.path.join(output, VECTORS), {"vectors": vectors, "index": index.astype(np.int32)})

    module = tf.Module()
    module.encoder = encoder
    module.encode = encode
    serve = tf.function(lambda text: {F.EMBEDDING: encode(text)}, autograph=False)
    signature = serve.get_concrete_function(tf.TensorSpec([None], tf.string, F.TEXT))
    tf.saved_model.save(module, shop.model_folder(output), signatures=signature)
    return (
        f"{len(texts):,} distinct texts of {len(items) - 1:,} items to {vectors.shape[1]} dimensions, "
        f"{len(texts) / max(seconds, 1e-9):,.0f} texts/s ({dtype}, {config.mode})"
    )
