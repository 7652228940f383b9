"""The stages of the pipeline: `data`, `models`, `release`, functions from channels to channels.

Each takes and returns dataclasses of channels; `nodes` of what it returns are the components that it
built, in order. `models` takes what `data` gives, `release` what both give; they import `components`
and `schema`.
"""
