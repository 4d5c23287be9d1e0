"""How much arithmetic one pass of an ONNX graph is."""

from __future__ import annotations

from math import prod

import onnx

from nddr_deploy.errors import ModelFileError


def count_flops(model: onnx.ModelProto, size_hw: tuple[int, int], *, batch: int = 1) -> int:
    """Floating-point operations of one pass: 2 per multiply-accumulate of the convolutions and matrix products.

    What else a graph does (activations, pooling, resizing) is below one per cent of it and left out, as in the
    literature. Padded positions count, as they do in every library's own figure.

    Args:
        model: an input that leaves dimensions open is (N, H, W, 3) or (N, 3, H, W); left as it is.
        size_hw: H and W, where the graph leaves them open.
        batch: N, where the graph leaves it open.

    Raises:
        ModelFileError: the shape of an operand cannot be inferred.
    """
    return sum(node_flops(model, size_hw, batch=batch))


def node_flops(model: onnx.ModelProto, size_hw: tuple[int, int], *, batch: int = 1) -> list[int]:
    """`count_flops` of every node by itself, in the order of the graph; 0 for what is left out.

    Args and Raises as there.
    """
    shapes = _shapes(model, size_hw, batch)
    counts = []
    for node in model.graph.node:
        if node.op_type not in _COUNTS:
            counts.append(0)
            continue
        names = [*node.input[:2], node.output[0]]
        unknown = [name for name in names if name not in shapes]
        if unknown:
            raise ModelFileError(
                f"The shape of {unknown[0]!r} at {node.op_type} node {node.name!r} cannot be inferred for images of "
                f"{size_hw[0]}x{size_hw[1]}, so its arithmetic cannot be counted. Export the model with a fixed size."
            )
        counts.append(2 * _COUNTS[node.op_type](node, *(shapes[name] for name in names)))
    return counts


Shape = tuple[int, ...]


def _conv(node: onnx.NodeProto, data: Shape, weight: Shape, out: Shape) -> int:
    return prod(out) * prod(weight[1:])  # weight: (out, in / groups, *kernel)


def _conv_transpose(node: onnx.NodeProto, data: Shape, weight: Shape, out: Shape) -> int:
    return prod(data) * prod(weight[1:])  # weight: (in, out / groups, *kernel)


def _gemm(node: onnx.NodeProto, left: Shape, right: Shape, out: Shape) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(out) * (left[0] if transposed else left[1])


def _matmul(node: onnx.NodeProto, left: Shape, right: Shape, out: Shape) -> int:
    return prod(out) * left[-1]


_COUNTS = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "MatMul": _matmul}


def _shapes(model: onnx.ModelProto, size_hw: tuple[int, int], batch: int) -> dict[str, Shape]:
    """Every tensor whose whole shape is known once the input's open dimensions are filled in."""
    filled = onnx.ModelProto()
    filled.CopyFrom(model)
    weights = {weight.name: tuple(weight.dims) for weight in filled.graph.initializer}
    for value in filled.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in weights or all(dim.HasField("dim_value") for dim in dims):
            continue
        channels_last = dims[3].dim_value == 3
        extents = (batch, *size_hw, 3) if channels_last else (batch, 3, *size_hw)
        for dim, extent in zip(dims, extents, strict=True):
            if not dim.HasField("dim_value"):
                dim.dim_value = extent
    for value in [*filled.graph.output, *filled.graph.value_info]:  # stale names of open dimensions would win
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.ClearField("dim_param")
    inferred = onnx.shape_inference.infer_shapes(filled, data_prop=True).graph
    shapes = dict(weights)
    for value in [*inferred.input, *inferred.output, *inferred.value_info]:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    for node in inferred.node:  # weights may also be constants
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                shapes[node.output[0]] = tuple(attribute.t.dims)
    return shapes
