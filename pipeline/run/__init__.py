"""A run on this machine: command line, lock, signals, execution, progress, refresh.

May import `pipeline.report`, `pipeline.pipeline` and all below them. TFX is imported by `dag_runner`
and `refresh` only, so that a wrong argument is answered at once.
"""
