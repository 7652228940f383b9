"""What two pushed versions of the same pipeline must have in common."""

import collections
import dataclasses
import json
from pathlib import Path

from tensorflow.core.protobuf import saved_model_pb2


@dataclasses.dataclass(frozen=True)
class Pushed:
    """The only version in a serving folder, or the oldest.

    `signatures` are names, types and shapes of inputs and outputs; `ops` how often each op is in the graph
    and its functions; `figures` those of its push record.
    """

    signatures: dict
    ops: collections.Counter
    figures: dict

    @classmethod
    def of(cls, serving_dir: Path) -> "Pushed":
        folder = min(serving_dir.iterdir(), key=lambda path: int(path.name))
        model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        (graph,) = model.meta_graphs
        functions = [function.node_def for function in graph.graph_def.library.function]
        ops = collections.Counter(node.op for nodes in [graph.graph_def.node, *functions] for node in nodes)
        signatures = {
            name: [_tensors(signature.inputs), _tensors(signature.outputs)]
            for name, signature in graph.signature_def.items()
        }
        record = json.loads((folder / "assets.extra" / "push_record.json").read_text())
        return cls(signatures, ops, record["figures"])


def _tensors(tensors):
    return {
        name: (tensor.dtype, [axis.size for axis in tensor.tensor_shape.dim])
        for name, tensor in tensors.items()
    }
