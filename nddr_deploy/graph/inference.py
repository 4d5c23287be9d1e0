"""Types and shapes of a graph's tensors, inferred without moving its large weights about."""

from __future__ import annotations

from math import prod

import onnx
from onnx import helper

from nddr_deploy.errors import ModelFileError

LARGE = 4096  # elements: a shape, the amounts of a padding and an index have fewer; a weight often has more


def skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its large weights as inputs: inference needs the values of small ones alone."""
    graph = model.graph
    light = onnx.GraphProto(name=graph.name, node=graph.node, input=graph.input, output=graph.output)
    declared = {value.name for value in graph.input}
    for weight in graph.initializer:
        if prod(weight.dims) <= LARGE:
            light.initializer.add().CopyFrom(weight)
        elif weight.name not in declared:
            light.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    return onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, graph=light)


def infer(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph (use `skeleton` for a large one) with what can be known of every tensor.

    Raises:
        ModelFileError: types or shapes contradict each other.
    """
    try:
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(
            f"The graph's types or shapes contradict each other: {reason}. Export it again."
        ) from error


def tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """Tensor -> its element type, for inputs, weights and what every node makes."""
    graph = infer(skeleton(model))
    values = (*graph.input, *graph.output, *graph.value_info)
    weights = {weight.name: int(weight.data_type) for weight in graph.initializer}
    return weights | {value.name: int(value.type.tensor_type.elem_type) for value in values}


def tensor_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int | None, ...]]:
    """Tensor -> its shape, None where a dimension is open.

    Args:
        graph: from `infer`.
    """
    shapes = {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in (*graph.input, *graph.output, *graph.value_info)
        if value.type.tensor_type.HasField("shape")
    }
    return {weight.name: tuple(weight.dims) for weight in graph.initializer} | shapes
