"""A TF-Serving-compatible model server for machines without Docker.

Four rooms; imports point down: `process` -> `grpc_api`, `http_api` -> `core`, and nothing else of ours.

* `core`: the work, without a transport.
  `errors`: `StatusError`, an error with a canonical status code.
  `tensors`: TensorProto <-> array, checked against a signature.
  `servable`: one loaded SavedModel version. `warmup`: verifies it with its recorded requests.
  `version_manager`: watches one model's folders and decides which `versions` serve.
  `server_core`: the models, their labels, and changes of the configuration.
  `predictor`: the work behind Predict. `inference`: behind Classify and Regress.
  `batching`: merges concurrent requests. `output_sizes`: how its answers are cut apart.
  `metrics`: Prometheus.
* `grpc_api`: `prediction_service`, `model_service`, and what reflection reports of them.
* `http_api`: `rest` (what the paths mean), `http_server` (connections), `json_values`,
  `json_tensors` and `json_examples` (bodies).
* `process`: `flags`, `config_files` (the text protos that flags name), `logs`, `ports`, `main` (what is
  checked at once), `server` (all of it), and `child`, which starts it in a process of its own.
"""
