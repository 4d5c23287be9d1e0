"""A float32 graph with Q/DQ pairs, for runtimes that multiply integers.

`graph.placement` decides where pairs go; here they are made. ONNX Runtime's own quantiser is not used for that: it
puts pairs between a convolution and its ReLU, and gives the inputs of a Concat a scale each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isfinite

import numpy as np
import onnx
from onnx import helper, numpy_helper

from nddr_deploy.errors import ConfigError
from nddr_deploy.graph.calibration import Range
from nddr_deploy.graph.flat import keep_weights, replace_nodes
from nddr_deploy.graph.fp16_limits import Kept
from nddr_deploy.graph.lint_rule import Target
from nddr_deploy.graph.placement import Placement, place
from nddr_deploy.tasks.base import Array

SMALLEST_SCALE = {"cpu": 1e-12, "tensorrt8": 1e-12, "tensorrt": 2.0**-14}  # FP16's smallest normal number, for the last
LARGEST_BIAS = 2.0**30  # of an int32, with as much again for what is added to it
SYMMETRIC = 127


@dataclass(frozen=True)
class QuantisedGraph:
    """A graph with Q/DQ pairs.

    Attributes:
        layers: names of the nodes that multiply integers.
        kept: the other nodes with weights, and why each stayed.
    """

    model: onnx.ModelProto
    layers: tuple[str, ...]
    kept: tuple[Kept, ...]


def quantisable(model: onnx.ModelProto, target: Target) -> tuple[str, ...]:
    """Names of the nodes that `quantize` would quantise, in the graph's order.

    Raises:
        As `placement.place`.
    """
    return place(model, target).layers


def observed(model: onnx.ModelProto, target: Target) -> tuple[str, ...]:
    """The tensors whose ranges `quantize` needs, whatever it is asked to keep.

    Raises:
        As `placement.place`.
    """
    return tuple(name for group in place(model, target).groups for name in group)


def quantize(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    target: Target,
    *,
    keep: Collection[str] = (),
    reduce_range: bool = False,
) -> QuantisedGraph:
    """A copy whose layers read and multiply 8-bit integers, as Q/DQ pairs say it in ONNX.

    For "cpu": unsigned activations, int8 weights with a scale per output channel, int32 biases of scale s_x * s_w. For
    TensorRT: everything signed and symmetric, biases in float. The rest stays float32; for TensorRT 10 and later
    `graph.fp16.to_fp16` makes it FP16, which scales here leave room for. All readers of a tensor read its one pair.
    Nodes and tensors keep their names.

    Args:
        model: a flat float32 graph; left as it was.
        ranges: of every tensor of `observed(model, target)`, of the same model.
        target: "cpu", "tensorrt" (10 and later) or "tensorrt8".
        keep: names of nodes to leave in float.
        reduce_range: 7-bit weights, for processors without VNNI, whose sums of two products saturate.

    Raises:
        ConfigError: an unknown target or node, a range that is missing or no range.
        ModelFileError: the graph is quantised already.
    """
    placement = place(model, target, keep)
    scales = _scales(placement, ranges, target)
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    maker = _Maker(quantised.graph, scales, target, SYMMETRIC // 2 if reduce_range else SYMMETRIC)
    nodes = [node for name in _given(model, scales) for node in maker.pair(name)]
    layers = set(placement.layers)
    for node in quantised.graph.node:
        if node.name in layers:
            nodes += maker.quantise_weights(node)
        node.input[:] = [maker.dequantised.get(name, name) for name in node.input]
        nodes.append(node)
        for name in node.output:
            if name in scales:
                nodes += maker.pair(name)
    replace_nodes(quantised.graph, nodes)
    quantised.graph.initializer.extend(maker.weights.values())
    read = {name for node in quantised.graph.node for name in node.input}
    outputs = {value.name for value in quantised.graph.output}
    keep_weights(quantised.graph, {weight.name for weight in quantised.graph.initializer} & (read | outputs))
    del quantised.graph.value_info[:]
    return QuantisedGraph(quantised, placement.layers, placement.kept)


@dataclass(frozen=True)
class _Scale:
    """Of an activation: value = step * (integer - zero)."""

    step: float
    zero: int


def _scales(placement: Placement, ranges: Mapping[str, Range], target: Target) -> dict[str, _Scale]:
    scales = {}
    for group in placement.groups:
        for name in group:
            if name not in ranges:
                raise ConfigError(f"The range of {name!r} is missing. Calibrate the graph that is quantised.")
            if not (
                isfinite(ranges[name].low) and isfinite(ranges[name].high) and ranges[name].low <= ranges[name].high
            ):
                raise ConfigError(
                    f"The range of {name!r} is {ranges[name].low:g} to {ranges[name].high:g}, which is none."
                )
        low = min(0.0, *(ranges[name].low for name in group))
        high = max(0.0, *(ranges[name].high for name in group))
        scale = _unsigned(low, high) if target == "cpu" else _Scale(max(-low, high) / SYMMETRIC, 0)
        scale = _Scale(float(np.float32(max(scale.step, SMALLEST_SCALE[target]))), scale.zero)
        scales.update(dict.fromkeys(group, scale))
    return scales


def _unsigned(low: float, high: float) -> _Scale:
    step = max((high - low) / 255, SMALLEST_SCALE["cpu"])
    return _Scale(step, int(np.clip(round(-low / step), 0, 255)))


def _given(model: onnx.ModelProto, scales: Mapping[str, _Scale]) -> list[str]:
    """Inputs of the graph that get a pair."""
    return [value.name for value in model.graph.input if value.name in scales]


class _Maker:
    """Makes the pairs of one graph and their constants.

    Attributes:
        dequantised: tensor -> what its readers read in its place.
        weights: the new constants by name.
    """

    def __init__(self, graph: onnx.GraphProto, scales: Mapping[str, _Scale], target: Target, most: int) -> None:
        self.dequantised: dict[str, str] = {}
        self.weights: dict[str, onnx.TensorProto] = {}
        self._floats = {weight.name: weight for weight in graph.initializer}
        self._scales = scales
        self._target = target
        self._most = most

    def pair(self, name: str) -> list[onnx.NodeProto]:
        """Q and DQ of an activation."""
        scale = self._scales[name]
        kind = np.uint8 if self._target == "cpu" else np.int8
        step = self._constant(f"{name}/scale", np.array(scale.step, np.float32))
        zero = self._constant(f"{name}/zero_point", np.array(scale.zero, kind))
        whole, real = f"{name}/QuantizeLinear", f"{name}/DequantizeLinear"
        self.dequantised[name] = real
        return [
            helper.make_node("QuantizeLinear", [name, step, zero], [whole], name=whole),
            helper.make_node("DequantizeLinear", [whole, step, zero], [real], name=real),
        ]

    def quantise_weights(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """DQ nodes of a layer's weights, and of its bias where integers are added; the layer then reads these."""
        weight: Array = numpy_helper.to_array(self._floats[node.input[1]])
        axis = 0 if node.op_type == "Conv" or _transposed(node) else 1
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
        activation = self._scales[node.input[0]].step
        other = tuple(place for place in range(weight.ndim) if place != axis)
        steps = np.abs(weight).max(axis=other).astype(np.float64) / self._most
        steps = np.maximum(steps, SMALLEST_SCALE[self._target])
        integer_bias = bias is not None and self._target == "cpu"
        if integer_bias:  # a channel of tiny weights must not make its bias too large for an int32
            steps = np.maximum(steps, np.abs(numpy_helper.to_array(self._floats[bias])) / (activation * LARGEST_BIAS))
        steps = steps.astype(np.float32)
        aligned = steps.reshape([-1 if place == axis else 1 for place in range(weight.ndim)])
        whole = np.clip(np.rint(weight / aligned), -self._most, self._most).astype(np.int8)
        nodes = [self._stored(node, 1, whole, steps, axis)]
        if integer_bias:
            bias_steps = (np.float32(activation) * steps).astype(np.float32)
            whole_bias = np.rint(numpy_helper.to_array(self._floats[bias]).astype(np.float64) / bias_steps)
            nodes.append(self._stored(node, 2, whole_bias.astype(np.int32), bias_steps, 0))
        return nodes

    def _stored(self, node: onnx.NodeProto, place: int, values: Array, steps: Array, axis: int) -> onnx.NodeProto:
        name = node.input[place] if place == 1 else f"{node.name}/{node.input[place]}"  # its scale is the layer's own
        stored = self._constant(f"{name}/quantised", values)
        step = self._constant(f"{name}/scale", steps)
        zero = self._constant(f"{name}/zero_point", np.zeros(len(steps), values.dtype))
        real = f"{node.name}/{node.input[place]}/DequantizeLinear"
        node.input[place] = real
        return helper.make_node("DequantizeLinear", [stored, step, zero], [real], name=real, axis=axis)

    def _constant(self, name: str, values: Array) -> str:
        self.weights[name] = numpy_helper.from_array(values, name)
        return name


def _transposed(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
