"""Where the text encoder is trained: one device, several GPUs, several machines or a TPU."""

from __future__ import annotations

import tensorflow as tf

from models.text.losses import Batch
from schema.errors import ConfigError


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The distribution strategy of a configuration's word.

    Args:
      name: "none" (TensorFlow's default), "one_device" (the first GPU, else the CPU), "mirrored"
        (all GPUs of this machine), "multi_worker" (the machines of `TF_CONFIG`; must be the
        first thing that TensorFlow does in the process) or "tpu" (the TPU of this machine).

    Raises:
      ConfigError: the hardware or the surroundings are not there.
    """
    try:
        if name == "one_device":
            return tf.distribute.OneDeviceStrategy(
                "/GPU:0" if tf.config.list_logical_devices("GPU") else "/CPU:0"
            )
        if name == "mirrored":
            return tf.distribute.MirroredStrategy()
        if name == "multi_worker":
            return tf.distribute.MultiWorkerMirroredStrategy()
        if name == "tpu":
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect("local")
            return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, KeyError, tf.errors.OpError) as error:
        raise ConfigError(f"text_encoder.strategy: '{name}' cannot start here ({error})") from error
    return tf.distribute.get_strategy()


def distributed(batch: Batch, strategy: tf.distribute.Strategy) -> Batch:
    """A global batch as the replicas of a strategy take it: each an equal part, in order.

    Raises:
      ConfigError: the batch cannot be divided by the number of replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batch
    part = {}
    for name, values in batch.items():
        part[name], left = divmod(int(values.shape[0]), replicas)
        if left:
            raise ConfigError(
                f"text_encoder: a batch with {values.shape[0]} rows of '{name}' cannot be divided by the "
                f"{replicas} replicas of text_encoder.strategy; change pairs, households, contexts, targets "
                "or negatives"
            )

    def share(context: tf.distribute.ValueContext) -> Batch:
        number = context.replica_id_in_sync_group
        return {name: values[number * part[name] :][: part[name]] for name, values in batch.items()}

    return strategy.experimental_distribute_values_from_function(share)
