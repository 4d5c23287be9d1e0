"""Which layers of a float32 graph are computed in integers, and which cannot be or should not."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.errors import ModelFileError, UnsupportedError, unknown_choice
from nddr_deploy.graph.flat import check_flat
from nddr_deploy.graph.fp16_limits import Kept
from nddr_deploy.graph.lint_rule import TARGETS, Target
from nddr_deploy.graph.roles import QUANTISING, Flow

FEWEST_CHANNELS = 16  # a convolution of fewer gains nothing from integers
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
OLDEST_OPSET = 13  # scales per channel
_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def check_quantisable(model: onnx.ModelProto, target: Target) -> None:
    """Return if Q/DQ pairs can be put into this graph for this target.

    Raises:
        ConfigError: an unknown target.
        ModelFileError, UnsupportedError: the graph is quantised already, computes in something else than float32, has
            nodes without names of their own, is too old, too new for TensorRT 8, or not flat.
    """
    if target not in TARGETS:
        raise unknown_choice("target", target, TARGETS)
    check_flat(model)
    for node in model.graph.node:
        if node.op_type in QUANTISING or node.domain == "com.microsoft":
            raise ModelFileError(
                f"The model holds {node.op_type} node {node.name!r}, so it is quantised already; expected float32. "
                "Quantise the file that it was made from."
            )
    half = next((weight for weight in model.graph.initializer if weight.data_type in _FLOATS), None)
    if half is not None:
        kind = TensorProto.DataType.Name(half.data_type)
        raise UnsupportedError(f"{half.name!r} is {kind}; expected a float32 graph. Quantise the one it was made from.")
    names = [node.name for node in model.graph.node]
    if len(set(names)) < len(names) or not all(names):
        raise ModelFileError("Nodes need names of their own to be chosen by. Use a file written by nddr-export.")
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise UnsupportedError(
            f"The graph has opset {opset}; scales per channel need {OLDEST_OPSET} or later. Export the network again."
        )
    if target == "tensorrt8" and opset > 17:
        raise UnsupportedError(
            f"The graph has opset {opset}; TensorRT 8 reads ONNX up to opset 17. Export it with --opset 17, or "
            "quantise for TensorRT 10 and later."
        )


def choose_layers(
    flow: Flow, outputs: Collection[str], target: Target, keep: Collection[str] = ()
) -> tuple[tuple[int, ...], tuple[Kept, ...]]:
    """The numbers of the layers to compute in integers, in the graph's order; the other weighted nodes with reasons.

    Args:
        flow: of a graph that passed `check_quantisable`.
        outputs: names of its outputs.
        keep: names of nodes to leave in float.

    Raises:
        ConfigError: a name in `keep` that no node with weights has.
    """
    names = [flow.nodes[number].name for number in sorted(flow.weighted)]
    for name in keep:
        if name not in names:
            raise unknown_choice("keep", name, names)
    lead_on = _leading_on(flow)
    layers, kept = [], []
    for number in sorted(flow.weighted):
        node = flow.nodes[number]
        reason = _reason(flow, number, outputs, target)
        if not reason and number not in lead_on:
            reason = "it is the last layer of a head: it costs little time, and its rounding goes into the result"
        if not reason and node.name in keep:
            reason = "it was asked to stay in float"
        if reason:
            kept.append(Kept(node.name, reason))
        else:
            layers.append(number)
    return tuple(layers), tuple(kept)


def result_of(flow: Flow, outputs: Collection[str], number: int) -> str:
    """The tensor that leaves a layer: its result, or that of the ReLU which alone reads it.

    A Clip that starts at 0 counts as a ReLU: an unsigned grid ends where it does.
    """
    name = str(flow.nodes[number].output[0])
    readers = flow.readers.get(name, ())
    if len(readers) == 1 and name not in outputs and is_relu(flow, readers[0]):
        return str(flow.nodes[readers[0]].output[0])
    return name


def is_relu(flow: Flow, number: int) -> bool:
    node = flow.nodes[number]
    if node.op_type == "Relu":
        return True
    low = node.input[1] if node.op_type == "Clip" and len(node.input) > 1 else ""
    return low in flow.constants and not numpy_helper.to_array(flow.constants[low]).any()


def channel_axis(node: onnx.NodeProto) -> int:
    """Of a layer's weights: where its output channels are."""
    if node.op_type == "Conv":
        return 0
    return 0 if node.op_type == "Gemm" and attribute(node, "transB", 0) else 1


def attribute(node: onnx.NodeProto, name: str, usual: Any) -> Any:
    found = next((entry for entry in node.attribute if entry.name == name), None)
    return usual if found is None else helper.get_attribute_value(found)


def _leading_on(flow: Flow) -> set[int]:
    """The nodes that a weighted node follows, however far."""
    found: set[int] = set()
    for number in range(len(flow.nodes) - 1, -1, -1):
        if any(reader in found or reader in flow.weighted for reader in flow.following(number)):
            found.add(number)
    return found


def _reason(flow: Flow, number: int, outputs: Collection[str], target: Target) -> str:
    """Why a weighted node has no integer form here; empty where it has one."""
    node = flow.nodes[number]
    if node.op_type not in LAYERS:
        return f"{node.op_type} has no integer form in the runtimes that take Q/DQ"
    if any(name not in flow.constants for name in node.input[1:] if name):
        return "it multiplies two activations, or its weights are computed"
    if node.input[0] in flow.constants:
        return "its weights come first; integers are multiplied with the activation first"
    if target == "cpu" and node.op_type == "ConvTranspose":
        return "ONNX Runtime has no integer ConvTranspose on a CPU"
    if reason := _unusual(flow, node):
        return reason
    if target == "cpu" and result_of(flow, outputs, number) in outputs:
        return "its result is an output of the model, and on a CPU integers go in only where integers come out"
    fewest = _fewest_channels(flow, node)
    if fewest < FEWEST_CHANNELS:
        return f"it has {fewest} channels on one side; below {FEWEST_CHANNELS} integers gain no time"
    return ""


def _unusual(flow: Flow, node: onnx.NodeProto) -> str:
    """What the integer forms of a layer leave out."""
    dims = list(flow.constants[node.input[1]].dims)
    if node.op_type in ("Gemm", "MatMul") and len(dims) != 2:
        return f"its weights have {len(dims)} dimensions; integer forms take 2"
    if node.op_type == "ConvTranspose" and attribute(node, "group", 1) != 1:
        return "it has groups, whose output channels have no axis of their own in the weights"
    if node.op_type != "Gemm":
        return ""
    if attribute(node, "transA", 0) or any(attribute(node, name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return "it transposes what it reads, or scales its product or its bias"
    bias = list(flow.constants[node.input[2]].dims) if len(node.input) > 2 and node.input[2] else None
    if bias is not None and bias != [dims[channel_axis(node)]]:
        return f"its bias has the shape {bias}; integer forms take one value per channel"
    return ""


def _fewest_channels(flow: Flow, node: onnx.NodeProto) -> int:
    """Of what goes in and of what comes out."""
    dims = flow.constants[node.input[1]].dims
    if node.op_type == "Conv":
        return int(min(dims[0], dims[1] * attribute(node, "group", 1)))
    return int(min(dims[:2]))


def check_finite(flow: Flow, layers: Iterable[int]) -> None:
    """Return if no weight or bias of the layers holds infinity or what is not a number.

    Raises:
        ModelFileError: one does.
    """
    for number in layers:
        node = flow.nodes[number]
        for name in node.input[1:]:
            if name and not np.isfinite(numpy_helper.to_array(flow.constants[name])).all():
                raise ModelFileError(
                    f"The weight {name!r} of {node.op_type} node {node.name!r} holds infinity or what is not a number. "
                    "Train or export the network again."
                )
