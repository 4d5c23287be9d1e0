"""The 1x1 convolutions of an NDDR layer as one, whose result is split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from nddr_deploy.errors import UnsupportedError
from nddr_deploy.graph.flat import check_flat, keep_weights, replace_nodes
from nddr_deploy.tasks.base import Array

SPLIT_OPSET = 13  # Split takes its sizes as an input from here on
DOING_NOTHING = {"strides": 1, "dilations": 1, "pads": 0, "group": 1}


def merge_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which the 1x1 convolutions that read the same Concat are one, with a Split behind it.

    An NDDR layer multiplies the same K * C channels by one matrix per stream. One matrix product of K * C rows reads
    them once; whether that is faster than K smaller ones is for a measurement to say. Outputs stay equal up to the
    order in which a runtime adds. Tensors keep their names.

    Merged are convolutions by weights in the file, of stride 1, without padding and groups, all with a bias or all
    without one. Everything else stays as it is: larger kernels, convolutions that share another input than a Concat,
    and quantised ones, whose weights each have scales of their own.

    Args:
        model: one flat graph; left as it was.

    Raises:
        UnsupportedError: a graph that is not flat, or an opset before 13.
    """
    check_flat(model)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < SPLIT_OPSET:
        raise UnsupportedError(f"This model has opset {opset}; expected {SPLIT_OPSET} or later. Export it again.")
    merged = onnx.ModelProto()
    merged.CopyFrom(model)
    graph = merged.graph
    weights = {weight.name: weight for weight in graph.initializer}
    groups = _groups(graph.node, weights)
    if not groups:
        return merged
    first_of = {group[0].output[0]: group for group in groups}
    gone = {node.output[0] for group in groups for node in group}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output and node.output[0] in first_of:
            group = first_of[node.output[0]]
            added, values = _one(group, weights)
            nodes += added
            graph.initializer.extend(values)
        elif not node.output or node.output[0] not in gone:
            nodes.append(node)
    replace_nodes(graph, nodes)
    read = {name for node in graph.node for name in node.input}
    merged_away = {name for group in groups for node in group for name in node.input[1:]} - read
    keep_weights(graph, {weight.name for weight in graph.initializer} - merged_away)
    return merged


def _groups(nodes: Sequence[onnx.NodeProto], weights: Mapping[str, onnx.TensorProto]) -> list[list[onnx.NodeProto]]:
    """Two or more convolutions each that can be one, in the order of the graph."""
    joined = {node.output[0] for node in nodes if node.op_type == "Concat"}
    found: dict[tuple[str, bool, int], list[onnx.NodeProto]] = defaultdict(list)
    for node in nodes:
        if node.op_type == "Conv" and node.input[0] in joined and is_product(node, weights):
            found[node.input[0], _has_bias(node), weights[node.input[1]].data_type].append(node)
    return [group for group in found.values() if len(group) > 1]


def is_product(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> bool:
    """It multiplies each pixel's channels by one matrix, and does nothing else."""
    if any(name not in weights for name in node.input[1:] if name):
        return False
    if any(side != 1 for side in weights[node.input[1]].dims[2:]):
        return False
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.name == "auto_pad":
            if value not in (b"NOTSET", b"VALID"):
                return False
        elif attribute.name in DOING_NOTHING:
            entries = value if isinstance(value, (list, tuple)) else [value]
            if any(entry != DOING_NOTHING[attribute.name] for entry in entries):
                return False
    return True


def _has_bias(node: onnx.NodeProto) -> bool:
    return len(node.input) > 2 and bool(node.input[2])


def _one(
    group: Sequence[onnx.NodeProto], weights: Mapping[str, onnx.TensorProto]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """One convolution and a Split in place of a group, and their weights."""
    name = f"{group[0].name or group[0].output[0]}_merged"
    parts: list[list[Array]] = [
        [numpy_helper.to_array(weights[node.input[place]]) for node in group]
        for place in range(1, 3 if _has_bias(group[0]) else 2)
    ]
    values = [
        numpy_helper.from_array(np.concatenate(arrays), f"{name}.{kind}")
        for arrays, kind in zip(parts, ("weight", "bias")[: len(parts)], strict=True)
    ]
    sizes = numpy_helper.from_array(np.array([len(weight) for weight in parts[0]], np.int64), f"{name}.sizes")
    product = helper.make_node("Conv", [group[0].input[0], *(value.name for value in values)], [name], name=name)
    product.attribute.extend(group[0].attribute)
    outputs = [node.output[0] for node in group]
    split = helper.make_node("Split", [name, sizes.name], outputs, name=f"{name}/Split", axis=1)
    return [product, split], [*values, sizes]
