"""Which nodes of the pipeline a refreshed index runs again: said where a node is built."""

from __future__ import annotations

from typing import Any, TypeVar

from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.pipeline import Pipeline

Node = TypeVar("Node", bound=BaseNode)
_MARK = "rebuilt_by_refresh"


def rebuilt(node: Node, when: bool = True) -> Node:
    """Marks a node that ``--refresh-index`` runs again.

    The outputs of all others are taken from the latest run that pushed a model.

    Args:
      node: a component.
      when: False leaves it unmarked.

    Returns:
      The same node.
    """
    setattr(node, _MARK, when)
    return node


def rebuilt_ids(pipeline: Pipeline | Any) -> frozenset[str]:
    """Ids of the marked nodes of a pipeline."""
    return frozenset(node.id for node in pipeline.components if getattr(node, _MARK, False))
