"""Rules for each Q/DQ node by itself: its scale, its zero point and its integers."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from nddr_deploy.graph.lint_rule import AGAIN, TARGETS, TENSORRT, Found, Rule, Target
from nddr_deploy.graph.quantised_flow import Grid, QuantisedFlow, kind_name

INTEGER_FORM = {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"}
SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)  # 6.1e-5; below, FP16 has fewer and fewer bits


def quantised(graph: QuantisedFlow, target: Target) -> Found:
    dequantisers = (number for number in graph.quantising if graph.operation(number) == "DequantizeLinear")
    if not any(
        number in graph.flow.reached and graph.before_pair(graph.node(number).output[0]) != graph.node(number).output[0]
        for number in dequantisers
    ):
        otherwise = "" if target == "cpu" else ", or ask for fp16"
        yield (
            None,
            "The graph has no QuantizeLinear/DequantizeLinear pair on any activation, so nothing in it can run in "
            f"int8. {AGAIN[target]}{otherwise}.",
        )


def integer_operations(graph: QuantisedFlow, target: Target) -> Found:
    for number, node in enumerate(graph.flow.nodes):
        if node.op_type in INTEGER_FORM:
            reader = "ONNX Runtime and OpenVINO both fuse" if target == "cpu" else "TensorRT takes"
            yield (
                number,
                f"{graph.named(number)} computes with integers; {reader} QuantizeLinear/DequantizeLinear pairs around "
                "float operations. Quantise in the QDQ format.",
            )


def runtime_operations(graph: QuantisedFlow, target: Target) -> Found:
    for number, node in enumerate(graph.flow.nodes):
        if node.domain == "com.microsoft":
            yield (
                number,
                f"{graph.named(number)} is an operation of ONNX Runtime's own, which "
                f"{'OpenVINO may' if target == 'cpu' else 'TensorRT does'} not know. Export or quantise the model "
                "again without it.",
            )


def int32_bias(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.quantising:
        if graph.operation(number) == "DequantizeLinear" and graph.grid(number).kind == TensorProto.INT32:
            yield (
                number,
                f"{graph.named(number)} dequantises the int32 bias {graph.node(number).input[0]!r}, which TensorRT "
                f"does not take (ONNX Runtime's form for CPUs). {AGAIN[target]}.",
            )


def integer_type(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.quantising:
        kind = graph.grid(number).kind
        is_weight = number not in graph.flow.reached
        what = "weights" if is_weight else "values"
        if kind in (TensorProto.INT32, TensorProto.UNDEFINED, _expected(target, is_weight)):
            continue  # an int32 bias and a zero point that is computed have rules of their own
        if target != "cpu":
            reason = "TensorRT takes int8, signed (unsigned is ONNX Runtime's form for CPUs)"
        elif is_weight:
            reason = "expected int8: ONNX Runtime and OpenVINO are fastest with signed weights around zero"
        else:
            reason = "expected uint8: ONNX Runtime is 3 times slower with signed activations"
        yield number, f"{graph.named(number)} has {what} of type {kind_name(kind)}; {reason}. {AGAIN[target]}."


def _expected(target: Target, is_weight: bool) -> int:
    return int(TensorProto.UINT8) if target == "cpu" and not is_weight else int(TensorProto.INT8)


def zero_point(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.quantising:
        zero = graph.grid(number).zero_point
        runtime = "expected a constant" if target == "cpu" else "TensorRT takes the constant 0"
        if zero is None:
            yield number, f"The zero point of {graph.named(number)} is computed; {runtime}. {AGAIN[target]}."
        elif zero.any() and target != "cpu":
            yield (
                number,
                f"{graph.named(number)} has a zero point other than 0; TensorRT quantises symmetrically. "
                f"{AGAIN[target]}.",
            )
        elif zero.any() and number not in graph.flow.reached:
            yield (
                number,
                f"{graph.named(number)} has a zero point other than 0 for weights; integer convolutions are fast with "
                f"weights around 0 alone. {AGAIN[target]}.",
            )


def written_zero_point(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.quantising:
        if len(graph.node(number).input) < 3 or not graph.node(number).input[2]:
            yield (
                number,
                f"{graph.named(number)} has no zero point, which TensorRT 8 wants written down as 0. {AGAIN[target]}.",
            )


def constant_scale(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.quantising:
        if graph.grid(number).scale is None:
            runtime = (
                "runtimes compute in int8 with constants alone" if target == "cpu" else "TensorRT takes constants alone"
            )
            yield number, f"The scale of {graph.named(number)} is computed; {runtime}. {AGAIN[target]}."


def positive_scale(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.quantising:
        scale = graph.grid(number).scale
        if scale is None or (np.isfinite(scale).all() and (scale > 0).all()):
            continue
        worst = scale[~(np.isfinite(scale) & (scale > 0))].ravel()[0]
        zeros = "; weights that are all zero have it, and values that were never seen" if worst == 0 else ""
        yield (
            number,
            f"{graph.named(number)} has a scale of {worst:.3g}; expected numbers above 0{zeros}. Give what has no "
            "range of its own the scale 1, and quantise again.",
        )


def one_scale_per_activation(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.quantising:
        scale = graph.grid(number).scale
        if scale is not None and scale.size > 1 and number in graph.flow.reached:
            runtime = "integer convolutions take" if target == "cpu" else "TensorRT takes"
            yield (
                number,
                f"{graph.named(number)} has {scale.size} scales for an activation; {runtime} one per channel for "
                "weights alone. Quantise again with one scale per activation.",
            )


def channel_axis(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.quantising:
        scale = graph.grid(number).scale
        blocks = any(attribute.name == "block_size" and attribute.i for attribute in graph.node(number).attribute)
        if blocks or (scale is not None and scale.ndim > 1):
            yield (
                number,
                f"{graph.named(number)} has a scale per block; expected one per tensor or channel. Quantise again.",
            )
    for layer in graph.layers:
        grid, stored = graph.grid(layer.weights), graph.integers(layer.weights)
        if not grid.per_channel or grid.scale is None or grid.scale.ndim > 1 or stored is None:
            continue
        axis, found = _output_axis(graph, layer.number, stored.ndim), grid.axis % stored.ndim
        if found != axis or grid.scale.size != stored.shape[axis]:
            yield (
                layer.weights,
                f"{graph.named(layer.weights)} has {grid.scale.size} scales along axis {found} of weights of shape "
                f"{stored.shape}; {graph.named(layer.number)} needs one for each of its {stored.shape[axis]} output "
                f"channels, along axis {axis}. Quantise again.",
            )


def _output_axis(graph: QuantisedFlow, number: int, dimensions: int) -> int:
    """Of a layer's weights."""
    operation = graph.operation(number)
    if operation == "MatMul":
        return dimensions - 1
    if operation == "Gemm":
        turned = any(attribute.name == "transB" and attribute.i for attribute in graph.node(number).attribute)
        return 0 if turned else 1
    return 1 if operation == "ConvTranspose" else 0


def weights_per_channel(graph: QuantisedFlow, target: Target) -> Found:
    for layer in graph.layers:
        grid, stored = graph.grid(layer.weights), graph.integers(layer.weights)
        if grid.scale is None or grid.per_channel or stored is None or graph.operation(layer.number) == "MatMul":
            continue
        channels = stored.shape[_output_axis(graph, layer.number, stored.ndim)]
        if channels > 1:
            yield (
                layer.weights,
                f"{graph.named(layer.weights)} has one scale for {channels} output channels; one per channel costs no "
                "time and keeps small channels. Quantise again per channel.",
            )


def zero_weights(graph: QuantisedFlow, target: Target) -> Found:
    for layer in graph.layers:
        stored, grid = graph.integers(layer.weights), graph.grid(layer.weights)
        if stored is None or stored.ndim < 2 or grid.zero_point is None or grid.zero_point.any():
            continue
        axis = _output_axis(graph, layer.number, stored.ndim)
        empty = ~stored.astype(bool).any(axis=tuple(other for other in range(stored.ndim) if other != axis))
        if empty.all():
            found = "has nothing but zeros"
        elif empty.any():
            found = f"has nothing but zeros in {int(empty.sum())} of {empty.size} output channels"
        else:
            continue
        yield (
            layer.weights,
            f"{graph.named(layer.weights)} {found}: they were cut before, or a scale that is too large rounded them "
            "away. Look at the weights that they were made from; quantise per channel, or cut the channels.",
        )


def agreeing_pair(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.quantising:
        if graph.operation(number) != "QuantizeLinear":
            continue
        written = graph.grid(number)
        for reader in graph.flow.following(number):
            if graph.operation(reader) == "DequantizeLinear" and _contradict(written, graph.grid(reader)):
                yield (
                    reader,
                    f"{graph.named(reader)} reads integers with {graph.grid(reader)} that {graph.named(number)} wrote "
                    f"with {written}, so the values change; expected the same. Give both one scale and zero point.",
                )


def _contradict(written: Grid, read: Grid) -> bool:
    known = all(part is not None for part in (written.scale, read.scale, written.zero_point, read.zero_point))
    return known and not written.same(read)


def integers_read(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.quantising:
        if graph.operation(number) != "QuantizeLinear":
            continue
        readers = [graph.named(r) for r in graph.flow.following(number) if graph.operation(r) != "DequantizeLinear"]
        if graph.node(number).output[0] in graph.outputs:
            readers.append("the caller")
        if readers:
            runtime = "expected" if target == "cpu" else "TensorRT takes them behind"
            yield (
                number,
                f"{readers[0]} reads the integers of {graph.named(number)}; {runtime} a DequantizeLinear only. "
                f"{AGAIN[target]}.",
            )


def small_scale(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.quantising:
        grid = graph.grid(number)
        if grid.scale is None or grid.scale_kind != TensorProto.FLOAT16:
            continue
        small = grid.scale[(grid.scale > 0) & (grid.scale < SMALLEST_NORMAL)]
        if small.size:
            yield (
                number,
                f"{graph.named(number)} has a scale of {small.min():.3g} in FP16, below its smallest normal number of "
                "6.1e-05, where it has fewer bits. Keep the layer in FP32 (nddr-build --keep), or fold a factor into "
                "its weights.",
            )


FORM = (  # without these TensorRT refuses a graph, or builds another network
    Rule("quantised", "error", TARGETS, "some activation goes through a Q/DQ pair", quantised),
    Rule("int32-bias", "error", TENSORRT, "biases stay in float", int32_bias),
    Rule("integer-type", "error", TARGETS, "cpu: uint8 activations, int8 weights; tensorrt: int8 both", integer_type),
    Rule("zero-point", "error", TARGETS, "constant; 0 for weights, and for TensorRT everywhere", zero_point),
    Rule(
        "written-zero-point", "error", ("tensorrt8",), "zero points are written down, not left out", written_zero_point
    ),
    Rule("constant-scale", "error", TARGETS, "scales are constants", constant_scale),
    Rule("positive-scale", "error", TARGETS, "scales are finite and above 0", positive_scale),
    Rule(
        "activation-scale",
        "error",
        TARGETS,
        "an activation has one scale, not one per channel",
        one_scale_per_activation,
    ),
    Rule("channel-axis", "error", TARGETS, "scales of weights go along the output channels, one each", channel_axis),
    Rule("pair-agrees", "error", TARGETS, "Q and its DQ have the same scale and zero point", agreeing_pair),
    Rule("integers-read", "error", TARGETS, "nothing but a DQ reads the integers of a Q", integers_read),
)
OPERATIONS = (
    Rule(
        "integer-operation", "error", TARGETS, "Q/DQ pairs around float operations, no QLinearConv", integer_operations
    ),
    Rule("runtime-operation", "error", TENSORRT, "no operation of ONNX Runtime's own", runtime_operations),
    Rule("runtime-operation", "warning", ("cpu",), "no operation of ONNX Runtime's own", runtime_operations),
)
WEIGHTS = (
    Rule("per-channel", "warning", TARGETS, "weights have one scale per output channel", weights_per_channel),
    Rule("zero-weights", "warning", TARGETS, "no channel of weights is all zero", zero_weights),
    Rule(
        "small-scale", "warning", ("tensorrt",), "an FP16 scale is at least 6.1e-5, FP16's smallest normal", small_scale
    ),
)
