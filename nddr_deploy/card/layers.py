"""In which precision each node with weights computes, read from the graph itself."""

from __future__ import annotations

from collections.abc import Collection

import onnx

from nddr_deploy.card.fields import Precision
from nddr_deploy.card.schema import Layer
from nddr_deploy.graph.fp16_limits import Kept
from nddr_deploy.graph.inference import tensor_types
from nddr_deploy.graph.roles import Flow

_INTEGER = {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
_FLOATS: dict[int, Precision] = {onnx.TensorProto.FLOAT16: "fp16", onnx.TensorProto.BFLOAT16: "bf16"}


def layers_of(model: onnx.ModelProto, kept: Collection[Kept] = ()) -> tuple[Layer, ...]:
    """Every node with weights, in the graph's order.

    A node is int8 where both of its factors come out of DequantizeLinear: that is how a runtime knows that it may
    compute in integers.

    Args:
        model: with one flat graph.
        kept: nodes that were left out of a quantisation, with the reasons.
    """
    flow = Flow(model)
    types = tensor_types(model)
    reasons = {entry.node: entry.reason for entry in kept}
    layers = []
    for number, node in enumerate(flow.nodes):
        if number in flow.weighted or node.op_type in _INTEGER:
            precision = _precision(node, number, flow, types)
            reason = "" if precision == "int8" else reasons.get(node.name, "")
            layers.append(Layer(node=node.name, op=node.op_type, precision=precision, reason=reason))
    return tuple(layers)


def _precision(node: onnx.NodeProto, number: int, flow: Flow, types: dict[str, int]) -> Precision:
    makers = [flow.makers.get(name) for name in node.input[:2]]
    dequantised = [maker is not None and flow.nodes[maker].op_type == "DequantizeLinear" for maker in makers]
    if node.op_type in _INTEGER or (dequantised and all(dequantised)):
        return "int8"
    return _FLOATS.get(types.get(node.output[0], onnx.TensorProto.FLOAT), "fp32")
