"""What TensorRT would refuse, or build as something else than was asked for, found before TensorRT is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from onnx import TensorProto

from nddr_deploy.errors import ModelFileError, UnsupportedError
from nddr_deploy.graph.flat import constants_as_weights
from nddr_deploy.graph.inference import tensor_types
from nddr_deploy.graph.lint_grids import INTEGER_FORM
from nddr_deploy.graph.lint_types import LAST_OPSET_8
from nddr_deploy.graph.quantised_flow import named
from nddr_deploy.graph.quantize_lint import refused_by_tensorrt
from nddr_deploy.graph.roles import QUANTISING

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_TAKEN = {
    *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64),
    *(TensorProto.BOOL, TensorProto.UINT8),
}


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
        quantised = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        again = "Quantise with --target tensorrt8" if quantised else f"Export it with --opset {LAST_OPSET_8}"
        raise UnsupportedError(
            f"{source} has opset {opset}; TensorRT 8 reads ONNX up to opset {LAST_OPSET_8}. {again}, or use TensorRT "
            "10 or later."
        )
    for node in model.graph.node:
        if node.domain == "com.microsoft":
            raise UnsupportedError(
                f"{source}: {named(node)} is an operation of ONNX Runtime's own, which TensorRT does not know. Export "
                "or quantise the model again without it."
            )
        if node.op_type in INTEGER_FORM:
            raise ModelFileError(
                f"{source}: {named(node)} computes with integers; TensorRT takes QuantizeLinear/DequantizeLinear "
                "pairs around float operations. Quantise in the QDQ format."
            )


def _check_not_quantised(model: onnx.ModelProto, precision: str, source: str) -> None:
    first = next((node for node in model.graph.node if node.op_type in QUANTISING), None)
    if first is not None:
        raise ModelFileError(
            f"{source} is quantised ({named(first)}), but {precision} was asked for. Ask for int8, or use the file "
            "that it was quantised from."
        )


def _check_quantised(model: onnx.ModelProto, major: int, source: str) -> None:
    finding = next(refused_by_tensorrt(model, major), None)
    if finding is not None:
        raise ModelFileError(f"{source}: {finding.message}")


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
                yield name, named(node)


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
                    f"{source}: {named(node)} reads {name!r}, UINT8 inside the graph; {rule}. Export again."
                )
            if node.op_type != "Cast" or target not in _FLOATS:
                raise ModelFileError(
                    f"{source}: {named(node)} reads the UINT8 input {name!r}; {rule}. Let a Cast to float come first."
                )
        for name in node.output:
            if types.get(name) != TensorProto.UINT8:
                continue
            if name not in outputs:
                raise ModelFileError(
                    f"{source}: {named(node)} makes {name!r}, UINT8 inside the graph; {rule}. Export again."
                )
            if node.op_type != "Cast" or types.get(node.input[0]) not in _FLOATS:
                raise ModelFileError(
                    f"{source}: {named(node)} makes the UINT8 output {name!r}; {rule}. Let it be made by a Cast from "
                    "float."
                )
