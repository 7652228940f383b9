"""What a run found: summary.json, one line a component, charts and report.html.

Imports neither TFX nor TensorFlow, but for TFMA's metrics of a run; of this package, only
`pipeline.record` and `pipeline.formats`.
"""
