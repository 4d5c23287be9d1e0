"""A float32 graph -> the same graph with Q/DQ pairs, for runtimes that compute in 8-bit integers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from nddr_deploy.graph.calibration import Range
from nddr_deploy.graph.flat import constants_as_weights, keep_weights, replace_nodes
from nddr_deploy.graph.fp16_limits import Kept
from nddr_deploy.graph.lint_rule import Target
from nddr_deploy.graph.metadata import manifest_of, write_manifest
from nddr_deploy.graph.pairs import Pairs, place_pairs
from nddr_deploy.graph.placement import channel_axis, check_finite, check_quantisable, choose_layers
from nddr_deploy.graph.roles import Flow
from nddr_deploy.graph.rounding import (
    REDUCED_WEIGHT,
    WEIGHT,
    activation_step,
    bias_integers,
    bias_steps,
    least_weight_steps,
    weight_integers,
    weight_steps,
)
from nddr_deploy.manifest import METADATA_KEY
from nddr_deploy.tasks.base import Array

__all__ = ["Kept", "QuantisedGraph", "Range", "left_in_float", "observed", "quantisable", "quantize"]

_LOWEST = np.finfo(np.float32).min


@dataclass(frozen=True)
class QuantisedGraph:
    """What `quantize` made.

    Attributes:
        model: the graph with Q/DQ pairs.
        layers: names of the nodes that multiply integers, in the graph's order.
        kept: the other nodes with weights, and why each stays in float.
    """

    model: onnx.ModelProto
    layers: tuple[str, ...]
    kept: tuple[Kept, ...]


def quantisable(model: onnx.ModelProto, target: Target) -> tuple[str, ...]:
    """Names of the nodes that `quantize` quantises where none is to be kept, in the graph's order.

    Raises:
        As `placement.check_quantisable`.
    """
    flow, outputs = _flow_of(model, target)
    return tuple(flow.nodes[number].name for number in choose_layers(flow, outputs, target)[0])


def left_in_float(model: onnx.ModelProto, target: Target) -> tuple[Kept, ...]:
    """The nodes with weights that `quantize` does not quantise even so, and why.

    Raises:
        As `placement.check_quantisable`.
    """
    flow, outputs = _flow_of(model, target)
    return choose_layers(flow, outputs, target)[1]


def observed(model: onnx.ModelProto, target: Target) -> tuple[str, ...]:
    """The tensors whose ranges `quantize` needs, whatever is to be kept, in the graph's order.

    Raises:
        As `placement.check_quantisable`.
    """
    flow, outputs = _flow_of(model, target)
    layers, _ = choose_layers(flow, outputs, target)
    names = {name for group in place_pairs(flow, outputs, target, layers).groups for name in group}
    made = [value.name for value in model.graph.input] + [name for node in flow.nodes for name in node.output]
    return tuple(name for name in made if name in names)


def quantize(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    target: Target,
    *,
    keep: Collection[str] = (),
    reduce_range: bool = False,
) -> QuantisedGraph:
    """A copy whose layers read and multiply 8-bit integers, as Q/DQ pairs say it in ONNX.

    "cpu": unsigned activations, int8 weights with a scale per output channel, int32 biases on the scale of the
    products. "tensorrt8": everything signed and symmetric, zero points 0 written down, biases in float, weights in
    float before pairs of their own. "tensorrt", for 10 and later: the same with scales that FP16 holds; its rest is
    float32 here, and becomes FP16 by `fp16.to_fp16`, which needs the ranges of all tensors and leaves pairs alone.

    Nodes and tensors keep their names, and the manifest says what was done. `placement` chooses the layers, `pairs` the
    tensors, `rounding` makes the numbers.

    Args:
        model: one flat float32 graph whose nodes have names, as nddr-export writes it; left as it was.
        ranges: of every tensor in `observed(model, target)`, from `calibration.calibrate` of this model.
        target: "cpu" (ONNX Runtime and OpenVINO), "tensorrt" (10 and later) or "tensorrt8" (8.6).
        keep: names of nodes with weights to leave in float.
        reduce_range: weights up to 64 in place of 127, for processors without VNNI, on which ONNX Runtime's sums of
            two products saturate.

    Raises:
        ConfigError: an unknown target or node, a tensor without a range, or a range that is none.
        ModelFileError, UnsupportedError: the graph is quantised already, or is not as above.
    """
    flow, outputs = _flow_of(model, target)
    layers, kept = choose_layers(flow, outputs, target, keep)
    check_finite(flow, layers)
    pairs = place_pairs(flow, outputs, target, layers)
    writer = _Writer(model, flow, pairs, ranges, target, REDUCED_WEIGHT if reduce_range else WEIGHT)
    quantised = writer.write(layers)
    names = tuple(flow.nodes[number].name for number in layers)
    _note(quantised, target, len(names), len(kept))
    return QuantisedGraph(quantised, names, kept)


def _flow_of(model: onnx.ModelProto, target: Target) -> tuple[Flow, set[str]]:
    check_quantisable(model, target)
    return Flow(constants_as_weights(model)), {value.name for value in model.graph.output}


def _note(model: onnx.ModelProto, target: Target, layers: int, kept: int) -> None:
    """Say in the manifest, where there is one, what was done."""
    if all(entry.key != METADATA_KEY for entry in model.metadata_props):
        return
    manifest = manifest_of(model, source="the model")
    for_whom = {"cpu": "CPUs", "tensorrt": "TensorRT 10 and later", "tensorrt8": "TensorRT 8"}[target]
    note = f"quantised for {for_whom}: {layers} layers in int8, {kept} others in float"
    write_manifest(model, manifest.model_copy(update={"notes": (*manifest.notes, note)}))


class _Writer:
    """Writes one graph with pairs."""

    def __init__(
        self,
        model: onnx.ModelProto,
        flow: Flow,
        pairs: Pairs,
        ranges: Mapping[str, Range],
        target: Target,
        most: int,
    ) -> None:
        self.model = model
        self.flow = flow
        self.target = target
        self.most = most
        self.pairs = pairs
        self.steps: dict[str, tuple[float, int]] = {}
        for group in pairs.groups:
            self.steps.update(dict.fromkeys(group, activation_step(group, ranges, target)))
        self.weights: list[onnx.TensorProto] = []
        names = {name for node in flow.nodes for name in (node.name, *node.output)}
        self.taken = names | set(flow.constants) | {value.name for value in model.graph.input}

    def write(self, layers: Collection[int]) -> onnx.ModelProto:
        """The graph with a pair for every tensor that was placed, and with the layers' weights as integers."""
        quantised = onnx.ModelProto()
        quantised.CopyFrom(constants_as_weights(self.model))
        graph = quantised.graph
        made = self._weights(layers)
        given: dict[str, str] = {}  # tensor -> what its pair gives
        nodes: list[onnx.NodeProto] = []
        for name in self.steps.keys() - self.flow.makers.keys():
            nodes += self._pair(name, given)
        for number, node in enumerate(graph.node):
            if number in made:
                replaced, dequantisers = made[number]
                nodes += dequantisers
                node.input[1:] = [replaced.get(name, name) for name in node.input[1:]]
            node.input[:] = [given[name] if number in self.pairs.readers.get(name, ()) else name for name in node.input]
            nodes.append(node)
            for name in node.output:
                if name in self.steps:
                    nodes += self._pair(name, given)
        replace_nodes(graph, nodes)
        graph.initializer.extend(self.weights)
        read = {name for node in graph.node for name in node.input}
        replaced_weights = {name for number in layers for name in self.flow.nodes[number].input[1:]} - read
        keep_weights(graph, {weight.name for weight in graph.initializer} - replaced_weights)
        return quantised

    def _pair(self, tensor: str, given: dict[str, str]) -> list[onnx.NodeProto]:
        step, zero_point = self.steps[tensor]
        kind = np.uint8 if self.target == "cpu" else np.int8
        source, nodes = tensor, []
        if tensor in self.pairs.shielded:
            source, lowest = self._free(f"{tensor}/shielded"), self._constant(f"{tensor}/lowest", _LOWEST)
            nodes.append(helper.make_node("Max", [tensor, lowest], [source], name=self._free(f"{tensor}/Max")))
        scale, zero = (
            self._constant(f"{tensor}/scale", np.float32(step)),
            self._constant(f"{tensor}/zero_point", kind(zero_point)),
        )
        nodes.append(self._quantise(tensor, source, scale, zero))
        nodes.append(self._dequantise(tensor, nodes[-1].output[0], scale, zero))
        given[tensor] = nodes[-1].output[0]
        return nodes

    def _weights(self, layers: Collection[int]) -> dict[int, tuple[dict[str, str], list[onnx.NodeProto]]]:
        """Layer -> what it reads in place of its weights and bias, and the nodes that make it."""
        sharing: dict[tuple[str, int], list[int]] = defaultdict(list)  # a weight, by the axis of its channels
        for number in layers:
            node = self.flow.nodes[number]
            sharing[node.input[1], channel_axis(node)].append(number)
        made: dict[int, tuple[dict[str, str], list[onnx.NodeProto]]] = {}
        for (name, axis), numbers in sharing.items():
            values = numpy_helper.to_array(self.flow.constants[name])
            steps = weight_steps(values, axis, self.most, self.target, self._least(numbers))
            scale = self._constant(f"{name}/scale", steps)
            zero = self._constant(f"{name}/zero_point", np.zeros(len(steps), np.int8))
            if self.target == "cpu":
                stored = self._constant(f"{name}/quantised", weight_integers(values, steps, axis, self.most))
                nodes = [self._dequantise(name, stored, scale, zero, axis)]
            else:
                nodes = [self._quantise(name, name, scale, zero, axis)]
                nodes.append(self._dequantise(name, nodes[0].output[0], scale, zero, axis))
            given = nodes[-1].output[0]
            for number in numbers:
                made[number] = {name: given}, nodes  # they stand before the first of the layers
                nodes = []
                bias = self._bias(number)
                if bias is not None and self.target == "cpu":
                    self._add_bias(number, bias, steps, *made[number])
        return made

    def _least(self, numbers: Collection[int]) -> Array | None:
        """What the steps of weights must reach for the biases of these layers to fit; None where they stay in float."""
        if self.target != "cpu":
            return None
        least = [
            least_weight_steps(bias, self.steps[self.flow.nodes[number].input[0]][0])
            for number in numbers
            if (bias := self._bias(number)) is not None
        ]
        return np.maximum.reduce(least) if least else None

    def _bias(self, number: int) -> Array | None:
        node = self.flow.nodes[number]
        if len(node.input) < 3 or not node.input[2]:
            return None
        values: Array = numpy_helper.to_array(self.flow.constants[node.input[2]])
        return values

    def _add_bias(
        self, number: int, values: Array, weights: Array, replaced: dict[str, str], nodes: list[onnx.NodeProto]
    ) -> None:
        """An int32 bias of this layer's own, for its scale is that of what the layer reads."""
        node = self.flow.nodes[number]
        steps = bias_steps(self.steps[node.input[0]][0], weights)
        name = self._free(f"{node.name}/bias")
        scale = self._constant(f"{name}/scale", steps)
        zero = self._constant(f"{name}/zero_point", np.zeros(len(steps), np.int32))
        stored = self._constant(f"{name}/quantised", bias_integers(values, steps))
        nodes.append(self._dequantise(name, stored, scale, zero, 0))
        replaced[node.input[2]] = nodes[-1].output[0]

    def _quantise(self, of: str, name: str, scale: str, zero: str, axis: int | None = None) -> onnx.NodeProto:
        made, label = self._free(f"{of}/quantised"), self._free(f"{of}/QuantizeLinear")
        return helper.make_node("QuantizeLinear", [name, scale, zero], [made], name=label, axis=axis)

    def _dequantise(self, of: str, name: str, scale: str, zero: str, axis: int | None = None) -> onnx.NodeProto:
        made, label = self._free(f"{of}/dequantised"), self._free(f"{of}/DequantizeLinear")
        return helper.make_node("DequantizeLinear", [name, scale, zero], [made], name=label, axis=axis)

    def _constant(self, wanted: str, values: Array | np.generic) -> str:
        name = self._free(wanted)
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _free(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self.taken:
            name, number = f"{wanted}_{number}", number + 1
        self.taken.add(name)
        return name
