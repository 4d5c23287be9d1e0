"""What the passes over a graph share: which graphs they take, and how nodes and weights go."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from nddr_deploy.errors import ModelFileError, UnsupportedError


def check_flat(model: onnx.ModelProto) -> None:
    """Refuse what the passes would change wrongly: nested graphs, functions, and weights that are not in the model.

    Raises:
        UnsupportedError: a branch, a loop or a function of the model's own.
        ModelFileError: weights in another file.
    """
    for node in model.graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise UnsupportedError(
                f"{node.op_type} node {node.name!r} holds a graph of its own; expected one flat graph, as nddr-export "
                "writes it. Export the network without branches and loops."
            )
    if model.functions:
        raise UnsupportedError(
            f"The model defines its own operation {model.functions[0].name!r}; expected one flat graph. Inline it "
            "with onnx.inliner, or use a file written by nddr-export."
        )
    outside = [weight.name for weight in model.graph.initializer if weight.external_data]
    if outside or model.graph.sparse_initializer:
        what = f"weight {outside[0]!r} is in another file" if outside else "a weight is sparse"
        raise ModelFileError(f"Expected a model with all its weights inside; {what}. Save it as one plain file.")


def constants_as_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself, or a copy in which Constant nodes are weights of the same names."""
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    if not constants:
        return model
    lifted = onnx.ModelProto()
    lifted.CopyFrom(model)
    replace_nodes(lifted.graph, [node for node in model.graph.node if node.op_type != "Constant"])
    for node in constants:
        value = helper.get_attribute_value(node.attribute[0])
        if not isinstance(value, onnx.TensorProto):
            kind = np.float32 if node.attribute[0].name.startswith("value_float") else np.int64
            value = numpy_helper.from_array(np.array(value, dtype=kind))
        lifted.graph.initializer.add().CopyFrom(value)
        lifted.graph.initializer[-1].name = node.output[0]
    return lifted


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Make these the graph's nodes; they may be its own."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def keep_weights(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """Drop every weight that is not among `names`, without copying one."""
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in names:
            del graph.initializer[place]


def drop_unused(graph: onnx.GraphProto) -> None:
    """Drop the nodes and weights that no output needs."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    replace_nodes(graph, reversed(kept))
    keep_weights(graph, needed)
