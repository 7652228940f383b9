"""Texts as people write them: dropped words, abbreviations, typing errors. In TensorFlow ops."""

from __future__ import annotations

import tensorflow as tf

_SHORTEST = 4  # letters of a word that may be abbreviated or mistyped
_DROP, _ABBREVIATE, _MISTYPE = 0.15, 0.2, 0.1  # chances of each word


def noisy(texts: tf.Tensor, share: float, seed: tf.Tensor) -> tf.Tensor:
    """A share of the texts written carelessly, the others as they are.

    Each word of such a text is dropped (never all), cut to its first three letters or freed of
    its inner vowels ("chocolate" -> "cho", "chclte"), or mistyped (a letter left out, two
    swapped).

    Args:
      texts: string [N].
      share: chance of each text.
      seed: int32 [2].

    Returns:
      string [N].
    """
    words = tf.strings.split(texts)
    flat = words.flat_values

    def draw(shape: tf.Tensor, number: int) -> tf.Tensor:
        return tf.random.stateless_uniform(shape, seed + number)

    size = tf.size(flat)
    length = tf.strings.length(flat, "UTF8_CHAR")
    long = length >= _SHORTEST
    # a word too short is replaced by one that the ops below can cut; its result is not used
    word = tf.where(long, flat, "xxxx")
    letters = tf.where(long, length, 4)
    short = tf.strings.substr(word, tf.zeros_like(letters), tf.fill([size], 3), "UTF8_CHAR")
    bare = tf.strings.regex_replace(word, r"\B[aeiou]\B", "")
    at = 1 + tf.cast(draw([size], 1) * tf.cast(letters - 2, tf.float32), tf.int32)

    def part(start: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        return tf.strings.substr(word, start, count, "UTF8_CHAR")

    one, rest = tf.ones_like(at), letters
    left_out = tf.strings.join([part(tf.zeros_like(at), at), part(at + 1, rest)])
    swapped = tf.strings.join(
        [part(tf.zeros_like(at), at - 1), part(at, one), part(at - 1, one), part(at + 1, rest)]
    )
    coin = draw([size], 2) < 0.5
    kind = draw([size], 3)
    written = tf.where(
        long & (kind < _ABBREVIATE),
        tf.where(coin, short, bare),
        tf.where(long & (kind < _ABBREVIATE + _MISTYPE), tf.where(coin, left_out, swapped), flat),
    )
    # the luckiest word of each text always stays
    luck = words.with_flat_values(draw([size], 4))
    best = tf.gather(tf.reduce_max(luck, 1), words.value_rowids())
    kept = (luck.flat_values >= _DROP) | (luck.flat_values == best)
    noisy_words = tf.ragged.boolean_mask(words.with_flat_values(written), words.with_flat_values(kept))
    careless = tf.strings.reduce_join(noisy_words, 1, separator=" ")
    return tf.where(draw(tf.shape(texts), 5) < share, careless, texts)
