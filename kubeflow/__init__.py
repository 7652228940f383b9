"""The pipeline on Kubeflow Pipelines and Vertex AI: compiler, container image, README."""
