"""The pipeline on Kubeflow Pipelines and Vertex AI: compiler, container image, README.

It compiles what `pipeline.pipeline` assembles, with the command line of `pipeline.run.command`.
"""
