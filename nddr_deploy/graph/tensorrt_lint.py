"""What TensorRT would refuse, or build as something else than was asked for, found before TensorRT is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from nddr_deploy.errors import ModelFileError, UnsupportedError
from nddr_deploy.graph.flat import constants_as_weights
from nddr_deploy.graph.inference import tensor_types
from nddr_deploy.graph.roles import QUANTISING, Flow
from nddr_deploy.tasks.base import Array

LAST_OPSET_8 = 17
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_INTEGER_FORM = {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"}
_TAKEN = {
    *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64),
    *(TensorProto.BOOL, TensorProto.UINT8),
}
_QUANTISE = (
    "Quantise symmetrically with signed 8 bits: activation_type and weight_type QInt8, ActivationSymmetric, "
    "WeightSymmetric, and QuantizeBias off in onnxruntime.quantization"
)


def check_for_tensorrt(model: onnx.ModelProto, *, precision: str, major: int, source: str) -> None:
    """Return if TensorRT can be given this graph for this precision.

    Checked are the opset, the tensors' types, where UINT8 is, and, for "int8", the Q/DQ nodes: signed, symmetric
    around 0, one scale per activation, one or one per channel for weights, biases not quantised.

    Args:
        model: from nddr-export, or its quantised form; left as it was.
        precision: "fp32", "fp16" or "int8", what was asked for.
        major: of TensorRT: 8, 10 or 11.
        source: the file it came from, for the error.

    Raises:
        ModelFileError: the graph is not as the precision needs it.
        UnsupportedError: this TensorRT, or none, has what the graph uses.
    """
    model = constants_as_weights(model)
    _check_operators(model, major, source)
    if precision == "int8":
        _check_quantised(model, major, source)
    else:
        _check_not_quantised(model, precision, source)
    types = tensor_types(model)
    _check_types(model, types, precision, major, source)
    _check_uint8(model, types, source)


def _check_operators(model: onnx.ModelProto, major: int, source: str) -> None:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if major == 8 and opset > LAST_OPSET_8:
        raise UnsupportedError(
            f"{source} has opset {opset}; TensorRT 8 reads ONNX up to opset {LAST_OPSET_8}. Export it with --opset "
            f"{LAST_OPSET_8}, or use TensorRT 10 or later."
        )
    for node in model.graph.node:
        if node.domain == "com.microsoft":
            raise UnsupportedError(
                f"{source}: {_named(node)} is an operation of ONNX Runtime's own, which TensorRT does not know. Export "
                "or quantise the model again without it."
            )
        if node.op_type in _INTEGER_FORM:
            raise ModelFileError(
                f"{source}: {_named(node)} computes with integers; TensorRT takes QuantizeLinear/DequantizeLinear "
                "pairs around float operations. Quantise in the QDQ format."
            )


def _check_not_quantised(model: onnx.ModelProto, precision: str, source: str) -> None:
    first = next((node for node in model.graph.node if node.op_type in QUANTISING), None)
    if first is not None:
        raise ModelFileError(
            f"{source} is quantised ({_named(first)}), but {precision} was asked for. Ask for int8, or use the file "
            "that it was quantised from."
        )


def _check_quantised(model: onnx.ModelProto, major: int, source: str) -> None:
    flow = Flow(model)
    makers = {name: flow.nodes[number] for name, number in flow.makers.items()}
    weights = {weight.name: weight for weight in model.graph.initializer}
    pairs = [
        node
        for node in flow.nodes
        if node.op_type == "DequantizeLinear" and _operation(makers, node.input[0]) == "QuantizeLinear"
    ]
    if not any(flow.makers[node.output[0]] in flow.reached for node in pairs):
        raise ModelFileError(
            f"{source} has no QuantizeLinear/DequantizeLinear pair on any activation, so nothing in it can run in "
            f"int8. {_QUANTISE}, or ask for fp16."
        )
    outputs = {value.name for value in model.graph.output}
    for number, node in enumerate(flow.nodes):
        if node.op_type not in QUANTISING:
            continue
        _check_zero_point(node, weights, source)
        if major == 8 and len(node.input) < 3:
            raise ModelFileError(
                f"{source}: {_named(node)} has no zero point, which TensorRT 8 wants written down as 0. {_QUANTISE}."
            )
        _check_scale(node, weights, source, is_weight=number not in flow.reached)
        if node.op_type == "QuantizeLinear":
            stray = [reader for reader in flow.following(number) if flow.nodes[reader].op_type != "DequantizeLinear"]
            if stray or node.output[0] in outputs:
                reader = _named(flow.nodes[stray[0]]) if stray else "the caller"
                raise ModelFileError(
                    f"{source}: {reader} reads the integers of {_named(node)}; TensorRT takes them behind a "
                    f"DequantizeLinear only. {_QUANTISE}."
                )


def _check_zero_point(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto], source: str) -> None:
    """Signed 8 bits around zero; without a zero point, the type is that of the integers (unsigned where made here)."""
    name = node.input[2] if len(node.input) > 2 else ""
    stored = node.input[0] if node.op_type == "DequantizeLinear" else ""
    if stored in weights and weights[stored].data_type == TensorProto.INT32:
        raise ModelFileError(
            f"{source}: {_named(node)} dequantises the int32 bias {stored!r}, which TensorRT does not take (ONNX "
            f"Runtime's form for CPUs). {_QUANTISE}."
        )
    if name and name not in weights:
        raise ModelFileError(f"{source}: the zero point of {_named(node)} is computed; TensorRT takes the constant 0.")
    kind = TensorProto.INT8
    if name:
        kind = weights[name].data_type
    elif stored in weights:
        kind = weights[stored].data_type
    elif node.op_type == "QuantizeLinear":
        kind = next((a.i for a in node.attribute if a.name == "output_dtype" and a.i), TensorProto.UINT8)
    if kind != TensorProto.INT8:
        what = "weights" if stored in weights else "values"
        raise ModelFileError(
            f"{source}: {_named(node)} has {what} of type {TensorProto.DataType.Name(kind).lower()}; TensorRT takes "
            f"int8, signed (unsigned is ONNX Runtime's form for CPUs). {_QUANTISE}."
        )
    if name and numpy_helper.to_array(weights[name]).any():
        raise ModelFileError(
            f"{source}: {_named(node)} has a zero point other than 0; TensorRT quantises symmetrically. {_QUANTISE}."
        )


def _check_scale(
    node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto], source: str, *, is_weight: bool
) -> None:
    if node.input[1] not in weights:
        raise ModelFileError(f"{source}: the scale of {_named(node)} is computed; TensorRT takes constants alone.")
    scale: Array = numpy_helper.to_array(weights[node.input[1]])
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ModelFileError(
            f"{source}: {_named(node)} has a scale of {scale.min():.3g}; expected numbers above 0. Quantise again."
        )
    if scale.size > 1 and not is_weight:
        raise ModelFileError(
            f"{source}: {_named(node)} has {scale.size} scales for an activation; TensorRT takes one per channel for "
            "weights alone. Quantise again with one scale per activation."
        )
    if scale.ndim > 1 or any(attribute.name == "block_size" and attribute.i for attribute in node.attribute):
        raise ModelFileError(
            f"{source}: {_named(node)} has a scale per block; expected one per tensor or channel. Quantise again."
        )


def _check_types(model: onnx.ModelProto, types: Mapping[str, int], precision: str, major: int, source: str) -> None:
    for name, where in _tensors(model):
        kind = types.get(name, TensorProto.UNDEFINED)
        if kind == TensorProto.UNDEFINED:
            continue
        label = TensorProto.DataType.Name(kind).lower()
        if kind == TensorProto.DOUBLE:
            raise UnsupportedError(
                f"{source}: {name!r} at {where} is float64, which TensorRT does not have. Export the network "
                "in float32."
            )
        if kind not in _TAKEN:
            version = " 8" if kind == TensorProto.BFLOAT16 and major == 8 else ""
            raise UnsupportedError(
                f"{source}: {name!r} at {where} is {label}; TensorRT{version} is not asked for that by {precision}. "
                "Use the float32 file that nddr-export wrote."
            )
        if kind == TensorProto.FLOAT16 and precision == "fp32":
            raise ModelFileError(
                f"{source} computes in FP16 ({name!r} at {where}), but fp32 was asked for. Use the file that it was "
                "made from, or ask for fp16."
            )


def _tensors(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Every tensor, with the first node that makes or reads it."""
    seen = set()
    for node in model.graph.node:
        for name in (*node.input, *node.output):
            if name and name not in seen:
                seen.add(name)
                yield name, _named(node)


def _check_uint8(model: onnx.ModelProto, types: Mapping[str, int], source: str) -> None:
    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    inputs = {value.name for value in graph.input} - weights
    outputs = {value.name for value in graph.output}
    rule = "TensorRT converts UINT8 only from and to float, at the graph's own inputs and outputs"
    for node in graph.node:
        for name in node.input:
            if types.get(name) != TensorProto.UINT8:
                continue
            target = next((attribute.i for attribute in node.attribute if attribute.name == "to"), None)
            if name not in inputs:
                raise ModelFileError(
                    f"{source}: {_named(node)} reads {name!r}, UINT8 inside the graph; {rule}. Export again."
                )
            if node.op_type != "Cast" or target not in _FLOATS:
                raise ModelFileError(
                    f"{source}: {_named(node)} reads the UINT8 input {name!r}; {rule}. Let a Cast to float come first."
                )
        for name in node.output:
            if types.get(name) != TensorProto.UINT8:
                continue
            if name not in outputs:
                raise ModelFileError(
                    f"{source}: {_named(node)} makes {name!r}, UINT8 inside the graph; {rule}. Export again."
                )
            if node.op_type != "Cast" or types.get(node.input[0]) not in _FLOATS:
                raise ModelFileError(
                    f"{source}: {_named(node)} makes the UINT8 output {name!r}; {rule}. Let it be made by a Cast from "
                    "float."
                )


def _operation(makers: Mapping[str, onnx.NodeProto], name: str) -> str:
    return makers[name].op_type if name in makers else ""


def _named(node: onnx.NodeProto) -> str:
    return f"{node.op_type} node {node.name or (node.output[0] if node.output else '')!r}"
