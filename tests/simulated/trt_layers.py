"""What a simulated TensorRT's inspector tells of layers, in the words of 8.6, 10 and 11."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import onnx
from onnx import TensorProto

from simulated.trt_network import Network

WORDS = {TensorProto.FLOAT: "Float", TensorProto.FLOAT16: "Half", TensorProto.INT8: "Int8", TensorProto.UINT8: "UInt8"}
WORDS |= {TensorProto.INT32: "Int32", TensorProto.INT64: "Int64", TensorProto.BOOL: "Bool"}
SHORT = {"Float": "FP32", "Half": "FP16", "Int8": "Int8"}
KERNELS = {"Float": "f32f32_tf32f32_f32", "Half": "f16f16_f16f32_f32", "Int8": "i8i8_i8i32_f32"}
OPEN = "N/A due to dynamic shapes"
MULTIPLY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def describe_layers(network: Network, flags: Collection[str], pretend: str | None) -> list[dict[str, Any]]:
    """One record for each layer of the plan: names, and the types that it really computes with.

    Args:
        pretend: "Float", as if nothing narrower had been found; None for what was asked for.
    """
    assert network.model is not None
    nodes = list(network.model.graph.node)
    made_by = {output: node for node in nodes for output in node.output}
    records = []
    for node, layer in zip(nodes, network.layers, strict=True):
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Constant"):
            continue  # parts of what they lead to
        if node.op_type in MULTIPLY:
            kind = _arithmetic(network, node, layer, made_by, flags)
            if pretend is not None:
                kind = pretend
            types = {"in": kind, "out": "Half" if kind == "Int8" else kind, "weights": kind}
        else:
            types = {"in": _type(network, node.input[:1], flags), "out": _type(network, node.output[:1], flags)}
            if pretend is not None:
                types = {side: pretend if kind == "Half" else kind for side, kind in types.items()}
        records.append({"name": node.name, "operator": node.op_type, "inputs": node.input[:1], **types})
        records[-1].update(inputs=list(node.input[:1]), outputs=list(node.output))
    return records


def inspect(record: dict[str, Any], major: int, *, settled: bool = True) -> dict[str, Any]:
    """One layer as the inspector of a version tells of it.

    Args:
        settled: no shape is open, or the inspector has a context that was given shapes; else types stay untold.
    """
    multiplies = "weights" in record
    told: dict[str, Any] = {
        "Name": record["name"],
        "LayerType": {"Conv": "CaskConvolution", "ConvTranspose": "CaskDeconvolution"}.get(record["operator"], "gemm")
        if multiplies
        else "NoOp",
        "Inputs": [_tensor(name, record["in"], major, settled) for name in record["inputs"]],
        "Outputs": [_tensor(name, record["out"], major, settled) for name in record["outputs"]],
        "Metadata": f"[ONNX Layer: {record['name']}]",
    }
    if multiplies:
        kernel = f"sm80_xmma_fprop_implicit_gemm_{KERNELS[record['weights']]}_nhwckrsc_nhwc_tilesize64x64x64"
        told.update({"ParameterType": "Convolution", "Weights": {"Type": record["weights"], "Count": 1}})
        told.update({"TacticName": kernel, "TacticValue": "0x1"})
    if major > 8:
        told["StreamId"] = 0
    return told


def inspect_all(records: list[dict[str, Any]], major: int, *, detailed: bool, tensors: list[str], settled: bool) -> str:
    layers = [inspect(record, major, settled=settled) if detailed else record["name"] for record in records]
    rest = {"I/O Tensors": [{"Name": name} for name in tensors]} if major >= 11 else {"Bindings": tensors}
    return json.dumps({"Layers": layers, **rest})


def _tensor(name: str, kind: str, major: int, settled: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"Name": name, "Location": "Device", "Dimensions": [1]}
    if major >= 11:
        return {**told, "Format": "Row major" if settled else "N/A", "Datatype": kind}
    if not settled:
        return {**told, "Format/Datatype": OPEN}
    if major >= 10:
        return {**told, "Format/Datatype": kind}
    return {**told, "Format/Datatype": f"Row major linear {SHORT.get(kind, kind)} format"}


def _arithmetic(network: Network, node: onnx.NodeProto, layer: Any, made_by: Any, flags: Collection[str]) -> str:
    """The type in which a layer multiplies."""
    dequantised = all(name in made_by and made_by[name].op_type == "DequantizeLinear" for name in node.input[:2])
    if network.strongly_typed:
        return "Int8" if dequantised else WORDS[network.types[node.input[1]]]
    if dequantised and "INT8" in flags:
        return "Int8"
    if layer.precision_is_set and {"OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"} & set(flags):
        return {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8"}[layer.precision]
    return "Half" if "FP16" in flags else "Float"


def _type(network: Network, names: Any, flags: Collection[str]) -> str:
    """Of a tensor between layers."""
    kind = WORDS.get(network.types.get(names[0], TensorProto.FLOAT), "Float") if names else "Float"
    return "Half" if kind == "Float" and not network.strongly_typed and "FP16" in flags else kind
