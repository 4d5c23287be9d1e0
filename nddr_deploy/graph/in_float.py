"""The float32 graph that a quantised or half-precision one stands for: to look into, not to run in its place."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.errors import ModelFileError, UnsupportedError
from nddr_deploy.graph.flat import check_flat, constants_as_weights, keep_weights, replace_nodes
from nddr_deploy.graph.lint_grids import INTEGER_FORM
from nddr_deploy.tasks.base import Array

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, *HALVES)


def in_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the values that its stored weights mean, and with nothing rounded between its nodes.

    A quantised weight becomes scale * (integer - zero point), under the name by which its node reads it; Q and DQ nodes
    go. Half-precision weights and casts become float32.

    Args:
        model: with one flat graph; left as it was. One in float32 is returned itself.

    Raises:
        ModelFileError, UnsupportedError: the graph is not flat, or of operations on integers; or a scale is no weight
            of the model.
    """
    check_flat(model)
    types = {node.op_type for node in model.graph.node}
    if integers := sorted(types & INTEGER_FORM):
        raise UnsupportedError(
            f"The model computes in integers itself ({', '.join(integers)}), so its weights stand for no float graph. "
            "Give the file that it was made from, or one with Q/DQ pairs."
        )
    if "DequantizeLinear" not in types and not _has_halves(model):
        return model
    plain = onnx.ModelProto()
    plain.CopyFrom(constants_as_weights(model))
    _drop_quantisation(plain.graph)
    _widen(plain.graph)
    del plain.graph.value_info[:]
    return plain


def _drop_quantisation(graph: onnx.GraphProto) -> None:
    """Q and DQ nodes become nothing on activations, and values on weights."""
    weights = {weight.name: weight for weight in graph.initializer}
    outputs = {value.name for value in graph.output}
    same: dict[str, str] = {}  # tensor -> the one that it was rounded from
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        stored = weights.get(node.input[0])  # of a float weight that is quantised in the graph, nothing is stored
        if node.op_type == "DequantizeLinear" and stored is not None and stored.data_type not in FLOATS:
            graph.initializer.append(numpy_helper.from_array(_meaning(node, weights), node.output[0]))
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            if node.output[0] in outputs:
                kept.append(helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name))
            same[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    replace_nodes(graph, kept)
    keep_weights(graph, {name for node in kept for name in node.input} | outputs)


def _meaning(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> Array:
    """scale * (stored - zero point), scale and zero point along the node's axis where they are one per channel."""
    parameters = []
    for name in node.input[1:3]:
        if name and name not in weights:
            raise ModelFileError(
                f"The scale or zero point {name!r} of DequantizeLinear node {node.name!r} is computed; expected a "
                "weight of the model. Export the model again."
            )
        if name:
            parameters.append(numpy_helper.to_array(weights[name]).astype(np.float32))
    stored = numpy_helper.to_array(weights[node.input[0]]).astype(np.float32)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    aligned = [
        values.reshape(-1, *[1] * (stored.ndim - 1 - axis % stored.ndim)) if values.size > 1 else values.reshape(())
        for values in parameters
    ]
    zero = aligned[1] if len(aligned) > 1 else np.float32(0)
    meaning: Array = (stored - zero) * aligned[0]
    return meaning


def _has_halves(model: onnx.ModelProto) -> bool:
    return any(weight.data_type in HALVES for weight in model.graph.initializer) or any(
        _to_half(node) for node in model.graph.node
    )


def _to_half(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and any(
        attribute.name == "to" and attribute.i in HALVES for attribute in node.attribute
    )


def _widen(graph: onnx.GraphProto) -> None:
    for weight in graph.initializer:
        if weight.data_type in HALVES:
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), weight.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in HALVES:
                attribute.i = TensorProto.FLOAT
            elif attribute.HasField("t") and attribute.t.data_type in HALVES:  # of ConstantOfShape
                wide = numpy_helper.to_array(attribute.t).astype(np.float32)
                attribute.t.CopyFrom(numpy_helper.from_array(wide, attribute.t.name))
    for value in (*graph.input, *graph.output):
        kind = value.type.tensor_type
        if kind.elem_type in HALVES:
            kind.elem_type = TensorProto.FLOAT
