"""Which tensors get a Q/DQ pair, which of them share a scale, and who reads what the pair gives.

ONNX Runtime's own quantiser is not used for this, because it fights the rules below: it puts a pair between a
convolution and its ReLU or removes the ReLU, quantises every operand of every node of a type, gives each input of a
Concat a scale of its own, and lets nothing in float read past a pair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import onnx

from nddr_deploy.graph.lint_rule import Target
from nddr_deploy.graph.placement import attribute, is_relu, result_of
from nddr_deploy.graph.roles import Flow

_SELECTING = (  # every value that they return is one of those that they take
    *("MaxPool", "Concat", "Identity", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Expand"),
    *("DepthToSpace", "SpaceToDepth"),
)
_AVERAGING = ("AveragePool", "GlobalAveragePool")
_SUMS = ("Add", "Sum")


@dataclass(frozen=True)
class Pairs:
    """Where Q/DQ pairs stand.

    Attributes:
        groups: tensors that get a pair, in the graph's order; those of one group share a scale.
        readers: of each such tensor, numbers of the nodes that read what the pair gives; others read past it.
        shielded: of these tensors, what layers in float make between two pairs. ONNX Runtime would quantise the weights
            of such a layer unasked, with one scale for all channels (its WeightBiasQuantization), if nothing came
            between the layer (or its ReLU) and the QuantizeLinear.
    """

    groups: tuple[tuple[str, ...], ...]
    readers: dict[str, set[int]]
    shielded: frozenset[str]


def place_pairs(flow: Flow, outputs: Collection[str], target: Target, layers: Collection[int]) -> Pairs:
    """Every layer reads integers, each tensor is quantised once, and what only selects values keeps the scale.

    "cpu": what leaves a layer is quantised, too, for ONNX Runtime multiplies integers only where integers leave; and
    so is, backwards from there, what goes into a MaxPool, a Concat, a Resize or an average. A sum of quantised tensors
    is one of integers, unless a layer in float makes a branch of it. A node in float reads past a pair only where the
    tensor is there in float anyway.

    "tensorrt", "tensorrt8": a layer's result stays in float. Of a residual sum's branches the identity is quantised
    and the one through more layers is not, so that it can be added within the convolution. Nodes in float read past.

    Args:
        flow: of the graph.
        outputs: names of its outputs.
        layers: numbers of the layers to quantise, from `choose_layers`.
    """
    plan = _Plan(flow, set(outputs), layers)
    if target == "cpu":
        plan.quantise_for_cpu()
    else:
        plan.quantise_for_tensorrt()
    order = {name: number for number, node in enumerate(flow.nodes) for name in node.output}
    groups = [sorted(group, key=lambda name: order.get(name, -1)) for group in plan.shared(target)]
    groups.sort(key=lambda group: order.get(group[0], -1))
    shielded = plan.shielded() if target == "cpu" else ()
    return Pairs(tuple(map(tuple, groups)), dict(plan.readers), frozenset(shielded))


class _Plan:
    """The tensors to quantise, as they are found.

    Attributes:
        wanted: tensors that get a pair.
        readers: see `Pairs`.
    """

    def __init__(self, flow: Flow, outputs: set[str], layers: Collection[int]) -> None:
        self.flow = flow
        self.outputs = outputs
        self.layers = set(layers)
        self.wanted = {flow.nodes[number].input[0] for number in layers}
        self.readers: dict[str, set[int]] = defaultdict(set)
        for number in layers:
            self.readers[flow.nodes[number].input[0]].add(number)

    def quantise_for_cpu(self) -> None:
        flow = self.flow
        integers = {result_of(flow, self.outputs, number) for number in self.layers}
        waiting = self.wanted | integers
        while waiting:
            self._quantise_backwards(waiting)
            waiting = self._missing_branches()
        for number, node in enumerate(flow.nodes):
            names = self._carried(number) or self._summed(number)
            result = result_of(flow, self.outputs, number) if node.op_type in _SUMS else "".join(node.output[:1])
            if names and self.wanted.issuperset([*names, result]):
                for name in names:
                    self.readers[name].add(number)
                integers.add(result)
        for name in integers - self.outputs:
            self.readers[name].update(flow.readers.get(name, ()))

    def _quantise_backwards(self, tensors: Iterable[str]) -> None:
        """These tensors, and what goes into the nodes that hand integers on to them."""
        waiting = list(tensors)
        self.wanted.update(waiting)
        while waiting:
            maker = self.flow.makers.get(waiting.pop())
            new = set(self._carried(maker)) - self.wanted if maker is not None else set()
            self.wanted |= new
            waiting.extend(new)

    def _missing_branches(self) -> set[str]:
        """Of sums that are quantised and have a quantised branch: the others, but for what layers in float make."""
        missing: set[str] = set()
        for number in range(len(self.flow.nodes)):
            names = self._summed(number)
            if not self.wanted.isdisjoint(names) and result_of(self.flow, self.outputs, number) in self.wanted:
                missing.update(names)
        floats = self.flow.weighted - self.layers
        return missing - self.wanted - {self.flow.nodes[number].output[0] for number in floats}

    def shielded(self) -> set[str]:
        """What layers in float make for a pair alone, of what comes out of pairs."""
        flow = self.flow
        dequantised: set[str] = set()  # tensors that ONNX Runtime may dequantise as late as here
        for number, node in enumerate(flow.nodes):
            if _carries(node) and any(self._reads_dequantised(number, name, dequantised) for name in node.input):
                dequantised.update(node.output)
        results = {}
        for number in flow.weighted - self.layers:
            if self._reads_dequantised(number, flow.nodes[number].input[0], dequantised):
                results[number] = result_of(flow, self.outputs, number)
        wanted = self.wanted - self.outputs
        return {
            name for name in results.values() if name in wanted and self.readers[name].issuperset(flow.readers[name])
        }

    def _reads_dequantised(self, number: int, name: str, dequantised: Collection[str]) -> bool:
        return name in dequantised or number in self.readers.get(name, ())

    def quantise_for_tensorrt(self) -> None:
        flow = self.flow
        depths = _depths(flow)
        for number in range(len(flow.nodes)):
            names = self._summed(number)
            if len(names) != 2:
                continue
            makers = {name: flow.makers.get(name, -1) for name in names}
            convolutions = [name for name in names if flow.nodes[makers[name]].op_type in ("Conv", "ConvTranspose")]
            main = max(convolutions, key=lambda name: depths[makers[name]], default="")
            if makers.get(main) in self.layers:
                identity = names[1] if names[0] == main else names[0]
                self.wanted.add(identity)
                self.readers[identity].add(number)
        for number in range(len(flow.nodes)):
            for name in self._kept_scale(number):
                self.readers[name].add(number)

    def shared(self, target: Target) -> Sequence[set[str]]:
        """The tensors in groups of one scale.

        For a CPU, what a ReLU gives has a grid that starts at 0, in which the ReLU vanishes; it shares no scale with
        values below 0.
        """
        group = {name: {name} for name in self.wanted}
        positive = _positive(self.flow)
        relu = {name for name in self.wanted if name in self.flow.makers and is_relu(self.flow, self.flow.makers[name])}
        for number, node in enumerate(self.flow.nodes):
            names = self._kept_scale(number)
            together = set().union(*(group[name] for name in (*names, node.output[0]))) if names else set()
            if target == "cpu" and not together.isdisjoint(relu) and not positive.issuperset(together):
                continue
            group.update(dict.fromkeys(together, together))
        return list({id(members): members for members in group.values()}.values())

    def _kept_scale(self, number: int) -> list[str]:
        """What is quantised of a node's inputs, where its result is, too, and each value of it is one of theirs."""
        node = self.flow.nodes[number]
        if node.op_type in _AVERAGING or not self.wanted.issuperset(node.output[:1]):
            return []
        return [name for name in self._carried(number) if name in self.wanted]

    def _carried(self, number: int) -> list[str]:
        """What goes into a node that can hand integers on; empty for others."""
        node = self.flow.nodes[number]
        if self.flow.roles[number] != "network" or not _carries(node):
            return []
        names = list(node.input if node.op_type == "Concat" else node.input[:1])
        return names if all(map(self._is_activation, names)) else []

    def _summed(self, number: int) -> list[str]:
        """The branches of a sum of activations; empty for others."""
        node = self.flow.nodes[number]
        if node.op_type not in _SUMS or self.flow.roles[number] != "network":
            return []
        names = list(node.input)
        return names if len(names) > 1 and all(map(self._is_activation, names)) else []

    def _is_activation(self, name: str) -> bool:
        maker = self.flow.makers.get(name)
        return maker is not None and maker in self.flow.reached


def _carries(node: onnx.NodeProto) -> bool:
    if node.op_type == "Resize":
        return attribute(node, "mode", b"nearest") in (b"nearest", b"linear")  # others leave the range
    return node.op_type in _SELECTING or node.op_type in _AVERAGING


def _positive(flow: Flow) -> set[str]:
    """Tensors that hold nothing below 0 whatever the images."""
    found: set[str] = set()
    for number, node in enumerate(flow.nodes):
        handed_on = _carries(node) and found.issuperset(node.input if node.op_type == "Concat" else node.input[:1])
        if is_relu(flow, number) or node.op_type in ("Sigmoid", "Softmax") or handed_on:
            found.update(node.output)
    return found


def _depths(flow: Flow) -> dict[int, int]:
    """Node -> the weighted nodes on the longest way to it, itself included."""
    depths = {-1: 0}
    for number in range(len(flow.nodes)):
        before: Iterable[int] = (depths.get(maker, 0) for maker in flow.preceding(number))
        depths[number] = max(before, default=0) + (number in flow.weighted)
    return depths
