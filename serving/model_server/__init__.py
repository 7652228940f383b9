"""A TF-Serving-compatible model server for machines without Docker.

One module a concern, none of which knows the transport except `prediction_service`,
`model_service` and `main`:

* `flags`: command line -> `Config`.
* `errors`: `StatusError`, an error with a canonical status code.
* `tensors`: TensorProto <-> tensor, checked against a signature.
* `servable`: one loaded SavedModel version. `warmup`: replays its recorded requests.
* `version_manager`: watches the version directories and decides which one serves.
* `predictor`: the work behind Predict and GetModelMetadata.
* `prediction_service`, `model_service`: the gRPC faces. `main`: the process.
"""
