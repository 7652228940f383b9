"""A compiled spec, executed on this machine: what a Kubeflow back end does with it, without one.

`plan` reads a spec, `task` speaks KFP's executor contract with one task's command, `cache` finds what an
earlier run has done already, `execution` runs the whole. Topological order, placeholders and the reading
of a task's output are those of KFP's own local orchestrator (`kfp.local`); kubeflow/README.md says why the
rest of it cannot run these tasks.
"""

from kubeflow.local.execution import LocalRun
from kubeflow.local.plan import Plan

__all__ = ["LocalRun", "Plan"]
