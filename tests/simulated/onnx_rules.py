"""What a simulated TensorRT's parser takes, and what it says of the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import TensorProto

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
LAST_OPSET_OF_8 = 17
# A few of those that no version reads.
UNKNOWN = {"Unique", "Compress", "Det", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "BitShift"}
UNKNOWN |= {"DynamicQuantizeLinear", "MaxUnpool", "Multinomial", "SequenceAt", "StringNormalizer", "TfIdfVectorizer"}


@dataclass(frozen=True)
class Refusal:
    """Attributes:
    node: its index; -1 where it is about no node.
    text: why.
    """

    node: int
    text: str


def refusals(model: onnx.ModelProto, types: dict[str, int], major: int) -> Iterator[Refusal]:
    """What TensorRT of a major version does not take.

    Args:
        types: of tensors, by name, as `element_types` found them.
    """
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if major == 8 and opset > LAST_OPSET_OF_8:
        yield Refusal(-1, f"ONNX opset {opset} is newer than {LAST_OPSET_OF_8}")
    for index, node in enumerate(model.graph.node):
        if node.domain not in ("", "ai.onnx") or node.op_type in UNKNOWN:
            yield Refusal(index, f"No importer registered for op: {node.op_type}")
    yield from _about_uint8(model, types, major)


def _about_uint8(model: onnx.ModelProto, types: dict[str, int], major: int) -> Iterator[Refusal]:
    """UINT8 only comes in and goes out, through a Cast."""
    outputs = {output.name for output in model.graph.output}
    for index, node in enumerate(model.graph.node):
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for name in node.input:
            if types.get(name) == TensorProto.UINT8 and not _casts(node, types, major):
                yield Refusal(index, f"{node.op_type} cannot take the UINT8 tensor {name}")
        for name in node.output:
            if types.get(name) != TensorProto.UINT8:
                continue
            if node.op_type != "Cast" or (major == 8 and types.get(node.input[0]) not in FLOATS):
                yield Refusal(index, f"{node.op_type} cannot make the UINT8 tensor {name}")
            elif name not in outputs:
                yield Refusal(index, f"the UINT8 tensor {name} is neither an input nor an output of the network")


def _casts(node: onnx.NodeProto, types: dict[str, int], major: int) -> bool:
    return node.op_type == "Cast" and (major > 8 or types.get(node.output[0]) in FLOATS)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Type of every tensor that is known."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    types.update((weight.name, weight.data_type) for weight in graph.initializer)
    return types


def mixed_types(model: onnx.ModelProto, types: dict[str, int]) -> Iterator[str]:
    """Nodes that compute with floats of two types: an error where the graph decides the types."""
    for node in model.graph.node:
        if node.op_type in ("Cast", "QuantizeLinear", "DequantizeLinear", "Resize", "ConstantOfShape"):
            continue
        floats = {types[name] for name in node.input if types.get(name) in FLOATS}
        if len(floats) > 1:
            yield node.name
