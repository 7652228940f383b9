"""Flags of `tensorflow_model_server` that mean nothing here, and what is done instead.

A command line that starts TensorFlow Serving starts this server too; the log says what differs.
"""

from __future__ import annotations

_AT_ONCE = "the versions of one model are loaded one after another, several models at the same time"
_RETRY = "a version that does not load is tried again when its files change"
_SESSION = "sessions are as this server makes them"
_NO_LITE = "there is no TensorFlow Lite here; the SavedModel serves"

# Name -> (type of its value, what is done).
FLAGS: dict[str, tuple[type, str]] = {
    "enable_per_model_batching_parameters": (bool, "--batching_parameters_file is for all models"),
    "enable_profiler": (bool, "the profiler has a port of its own, see --profiler_port"),
    "enable_signature_method_name_check": (bool, "method names of signatures are not looked at"),
    "enforce_session_run_timeout": (bool, "a graph that has begun runs to its end"),
    "flush_filesystem_caches": (bool, "the system decides what it keeps of files that were read"),
    "force_allow_any_version_labels_for_unavailable_models": (
        bool,
        "a label that exists only moves to a version that serves",
    ),
    "load_retry_interval_micros": (int, _RETRY),
    "max_num_load_retries": (int, _RETRY),
    "mixed_precision": (str, "numbers have the types that the graph gives them"),
    "num_load_threads": (int, _AT_ONCE),
    "num_request_iterations_for_warmup": (int, "each warm-up request is sent once"),
    "num_tflite_interpreters_per_pool": (int, _NO_LITE),
    "num_tflite_pools": (int, _NO_LITE),
    "num_unload_threads": (int, "a version is unloaded when its last request has ended"),
    "per_process_gpu_memory_fraction": (float, "TensorFlow takes the memory of a GPU as it does by default"),
    "platform_config_file": (str, _SESSION),
    "prefer_tflite_model": (bool, _NO_LITE),
    "remove_unused_fields_from_bundle_metagraph": (bool, "of a loaded graph its signatures are kept"),
    "saved_model_tags": (str, "graphs with the tag 'serve' are loaded"),
    "skip_initialize_tpu": (bool, "there are no TPUs here"),
    "tensorflow_session_parallelism": (
        int,
        "threads are those of --tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism",
    ),
    "thread_pool_factory_config_file": (str, _SESSION),
    "total_model_memory_limit_bytes": (int, "the memory of models is not limited"),
    "xla_cpu_compilation_enabled": (bool, "graphs are compiled where they say so themselves"),
}
