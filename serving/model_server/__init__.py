"""A TF-Serving-compatible model server for machines without Docker.

One module a concern:

* `flags`: command line -> `Config`. `config_files`: the text protos that flags name. `logs`.
* `errors`: `StatusError`, an error with a canonical status code.
* `tensors`: TensorProto <-> array, checked against a signature. `json_tensors`: the same for JSON.
* `servable`: one loaded SavedModel version. `warmup`: verifies it with its recorded requests.
* `version_manager`: watches one model's folders and decides which versions serve.
* `server_core`: the models, their labels, and changes of the configuration.
* `predictor`: the work behind Predict. `inference`: behind Classify and Regress.
* `batching`: merges concurrent requests. `metrics`: Prometheus.
* `prediction_service`, `model_service`, `service_descriptors`: the gRPC faces. `rest`: HTTP.
* `main`: the process.
"""
