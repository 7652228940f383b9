"""The text encoder as the servable has it: its weights once, laid out as its products read them.

A :class:`TextEncoder` holds what training changes: float32 weights, by Keras layer. Casting them to the
compute type and joining query, key and value costs more than the products of one short query, and a
graph cannot do it in advance, since weights are variables. Here it is done once.
"""

from __future__ import annotations

import tensorflow as tf

from models.data.frozen import frozen_table
from models.text import forward
from models.text.encoder import TextEncoder, pooled
from schema import names as F


class ServedEncoder(tf.Module):
    """Texts to unit vectors, as the encoder gives them; nothing of it can be trained.

    Args:
      encoder: whose weights are taken.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__(name="served_encoder")
        bert, layers = encoder.backbone, encoder.layers
        self._tokenizer = encoder.tokenizer
        dtype = layers[0]._self_attention_layer.compute_dtype
        self._words = frozen_table(tf.cast(_tensor(bert.token_embedding.embeddings), dtype), name="words")
        # a text is one segment
        first = _tensor(bert.segment_embedding.embeddings)[0]
        places = _tensor(bert.position_embedding.position_embeddings)[: encoder.length]
        self._places = frozen_table(places + first, tf.float32, "places")
        norm = bert.embeddings_layer_norm
        self._gain = frozen_table(_tensor(norm.gamma), tf.float32, "gain")
        self._shift = frozen_table(_tensor(norm.beta), tf.float32, "shift")
        self._epsilon = norm.epsilon
        self._forms = tuple(forward.LayerForm.of(layer) for layer in layers)
        self._weights = [
            {name: frozen_table(value, name=name) for name, value in forward.weights_of(layer).items()}
            for layer in layers
        ]

    @tf.Module.with_name_scope
    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Unit vectors, float32 [N, dim], of texts (string [N]); an empty text has one too."""
        ids = self._tokenizer(texts)
        hidden = tf.cast(tf.gather(self._words, ids), tf.float32) + self._places[: tf.shape(ids)[1]]
        hidden = forward.normalise(hidden, self._gain, self._shift, self._epsilon)
        for form, weights in zip(self._forms, self._weights, strict=True):
            read = {name: tf.convert_to_tensor(value) for name, value in weights.items()}
            hidden = forward.run(form, read, hidden, ids > 0)
        return pooled(hidden, ids)

    def function(self) -> tf.types.experimental.GenericFunction:
        """The encoder as a compiled function of string [N]."""
        spec = tf.TensorSpec([None], tf.string, F.TEXT)
        return tf.function(self.__call__, input_signature=[spec], autograph=False)


def _tensor(variable: object) -> tf.Tensor:
    return tf.convert_to_tensor(variable)
