"""Rules for CPUs alone: what ONNX Runtime needs to make one integer convolution of a convolution between Q/DQ.

It fuses DQ, Conv and Q where the bias is int32 on the grid of the products, exactly one QuantizeLinear reads the
result, and a ReLU or Clip between them does nothing that the grid's own ends do not. OpenVINO is less strict.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, numpy_helper

from nddr_deploy.graph.lint_rule import Found, Rule, Target
from nddr_deploy.graph.quantised_flow import Grid, Layer, QuantisedFlow, kind_name
from nddr_deploy.tasks.base import Array

BOUNDS = ("Relu", "Clip")
LARGEST_BIAS = 2**31 - 1
_TOLERANCE = 1e-4  # relative; scales are float32 products, some rounded twice
_HALF_RANGE = 64  # weights up to which two products of 255 x weight fit into 16 bits


def bias(graph: QuantisedFlow, target: Target) -> Found:
    for layer in graph.layers:
        node = graph.node(layer.number)
        name = node.input[2] if len(node.input) > 2 else ""
        if not name or node.op_type == "Gemm":
            continue
        dequantiser = graph.dequantiser(name)
        if dequantiser is None:
            yield (
                layer.number,
                f"{graph.named(layer.number)} has the bias {name!r} in float; ONNX Runtime fuses its integer "
                "convolution with an int32 bias whose scale is that of the input times that of the weights, and only "
                "late versions make one themselves. Quantise the bias so.",
            )
            continue
        problem = _bias_problem(graph, layer, graph.grid(dequantiser))
        if problem:
            yield (
                dequantiser,
                f"{graph.named(dequantiser)} has {problem}; the bias of {graph.named(layer.number)} has to be int32, "
                "with the scale of its input times that of its weights and zero point 0. Quantise the bias so.",
            )


def _bias_problem(graph: QuantisedFlow, layer: Layer, grid: Grid) -> str:
    if grid.kind != TensorProto.INT32:
        return f"a bias of type {kind_name(grid.kind)}"
    if grid.zero_point is None or grid.zero_point.any():
        return "a zero point other than 0"
    values, weights = graph.grid(layer.values).scale, graph.grid(layer.weights).scale
    if grid.scale is None or values is None or weights is None or values.size > 1:
        return "a scale that is computed" if grid.scale is None else ""  # the others have rules of their own
    products = weights.ravel() * values.ravel()
    scale = grid.scale.ravel()
    if scale.size not in (1, products.size):
        return f"{scale.size} scales for weights with {products.size}"
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(scale / products - 1)
    worst = int(np.argmax(np.nan_to_num(error, nan=np.inf)))
    if error[worst] <= _TOLERANCE:
        return ""
    found, expected = np.broadcast_to(scale, products.shape)[worst], products[worst]
    return f"a scale of {found:.6g} where the product is {expected:.6g}"


def bias_range(graph: QuantisedFlow, target: Target) -> Found:
    for layer in graph.layers:
        node = graph.node(layer.number)
        dequantiser = graph.dequantiser(node.input[2]) if len(node.input) > 2 else None
        stored = None if dequantiser is None else graph.integers(dequantiser)
        if dequantiser is None or stored is None or graph.grid(dequantiser).kind != TensorProto.INT32:
            continue
        full = int((np.abs(stored.astype(np.int64)) >= LARGEST_BIAS).sum())
        if full:
            yield (
                dequantiser,
                f"{graph.named(dequantiser)} has {full} values at the end of int32, where a larger bias was cut off; "
                "expected a scale on which the bias fits. Give those channels of the weights a larger scale.",
            )


def fused(graph: QuantisedFlow, target: Target) -> Found:
    for layer in graph.layers:
        if graph.operation(layer.number) != "Conv":
            continue  # ONNX Runtime lets a MatMul or a Gemm end in float
        last = layer.number
        reader = graph.only_reader(last)
        if reader is not None and graph.operation(reader) in BOUNDS:
            last, reader = reader, graph.only_reader(reader)
        if reader is not None and graph.operation(reader) == "QuantizeLinear":
            continue
        name = graph.node(last).output[0]
        readers = [graph.named(number) for number in graph.flow.readers.get(name, ())]
        readers += ["the caller"] * (name in graph.outputs)
        shown = " and ".join(readers[:3]) + (f" and {len(readers) - 3} more" if len(readers) > 3 else "")
        yield (
            layer.number,
            f"{shown or 'nothing'} {'reads' if len(readers) < 2 else 'read'} what {graph.named(layer.number)} makes in "
            "float; ONNX Runtime computes a convolution in int8 only where one QuantizeLinear follows it (or its "
            "ReLU) and nothing else reads it. Put one Q/DQ pair there, for all readers, or leave the layer in float.",
        )


def bounds_in_grid(graph: QuantisedFlow, target: Target) -> Found:
    layers = {layer.number for layer in graph.layers}
    for number in graph.moving(BOUNDS):
        maker = graph.flow.makers.get(graph.node(number).input[0])
        reader = graph.only_reader(number)
        if maker is None or reader is None or graph.operation(reader) != "QuantizeLinear":
            continue
        if maker not in layers and not _adds_quantised(graph, maker):
            continue
        grid = graph.grid(reader)
        reach, limits = _reach(grid), _limits(graph, number)
        if reach is None or limits is None:
            continue
        step = float(grid.scale.ravel()[0]) if grid.scale is not None else 0.0
        inside = limits[0] <= reach[0] + 1e-3 * step and reach[1] <= limits[1] + 1e-3 * step
        if not inside:
            end = f"{limits[0]:.4g}" + ("" if np.isinf(limits[1]) else f" to {limits[1]:.4g}")
            yield (
                number,
                f"{graph.named(reader)} reaches from {reach[0]:.4g} to {reach[1]:.4g}, beyond {graph.named(number)} "
                f"({end}); ONNX Runtime fuses it with the convolution only where the grid ends with it. Quantise "
                "with the zero point 0 behind a ReLU.",
            )
        elif len(graph.node(reader).input) < 3:
            yield (
                number,
                f"{graph.named(reader)} has no zero point, without which not every ONNX Runtime fuses "
                f"{graph.named(number)}. Write the zero point 0 down.",
            )


def _adds_quantised(graph: QuantisedFlow, number: int) -> bool:
    node = graph.node(number)
    return node.op_type == "Add" and all(graph.dequantiser(name) is not None for name in node.input)


def _reach(grid: Grid) -> tuple[float, float] | None:
    """The ends of an 8-bit grid."""
    ends = {TensorProto.UINT8: (0, 255), TensorProto.INT8: (-128, 127)}.get(grid.kind)
    if ends is None or grid.scale is None or grid.zero_point is None or grid.per_channel:
        return None
    scale, zero = float(grid.scale.ravel()[0]), int(grid.zero_point.ravel()[0])
    return scale * (ends[0] - zero), scale * (ends[1] - zero)


def _limits(graph: QuantisedFlow, number: int) -> tuple[float, float] | None:
    """Of a Relu or a Clip; None where they are computed."""
    node = graph.node(number)
    if node.op_type == "Relu":
        return 0.0, np.inf
    limits = {attribute.name: attribute.f for attribute in node.attribute}
    found = [limits.get("min", -np.inf), limits.get("max", np.inf)]
    for place, name in enumerate(node.input[1:3]):
        if name and name not in graph.flow.constants:
            return None
        if name:
            value: Array = numpy_helper.to_array(graph.flow.constants[name])
            found[place] = float(value.ravel()[0])
    return found[0], found[1]


def saturation(graph: QuantisedFlow, target: Target) -> Found:
    full = 0
    for layer in graph.layers:
        stored = graph.integers(layer.weights)
        kinds = graph.grid(layer.values).kind, graph.grid(layer.weights).kind
        if stored is not None and kinds == (TensorProto.UINT8, TensorProto.INT8):
            full += bool(np.abs(stored.astype(np.int64)).max(initial=0) > _HALF_RANGE)
    if full:
        yield (
            None,
            f"{full} of {len(graph.layers)} quantised layers use weights beyond {_HALF_RANGE}: right on ARM and on "
            "processors with VNNI (avx512_vnni, avx_vnni); on others ONNX Runtime adds pairs of products in 16 bits, "
            "where they saturate. Quantise with reduce_range for those.",
        )


FORM = (
    Rule("int32-scaled-bias", "error", ("cpu",), "biases are int32, of scale s_input x s_weights, zero point 0", bias),
    Rule("bias-range", "error", ("cpu",), "no value of an int32 bias was cut off", bias_range),
    Rule("fuses", "error", ("cpu",), "one Q alone reads what a quantised convolution (or its ReLU) makes", fused),
    Rule(
        "relu-in-grid",
        "error",
        ("cpu",),
        "a Q behind a ReLU has zero point 0, so the ReLU vanishes in it",
        bounds_in_grid,
    ),
)
HINTS = (Rule("saturation", "warning", ("cpu",), "weights stay within 64, for processors without VNNI", saturation),)
