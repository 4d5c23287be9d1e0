"""Where Q/DQ pairs go: which nodes are quantised, which tensors that takes, and which of these share a scale."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import onnx
from onnx import helper

from nddr_deploy.errors import ModelFileError, unknown_choice
from nddr_deploy.graph.flat import check_flat
from nddr_deploy.graph.fp16_limits import Kept
from nddr_deploy.graph.lint_rule import TARGETS, Target
from nddr_deploy.graph.roles import QUANTISING, Flow

FEWEST_CHANNELS = 16  # a convolution of fewer gains nothing from integers
LAYERS = ("Conv", "Gemm")
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")
_SHARING = ("MaxPool", "Concat")  # every value that they return is one that they take: one scale before and after


@dataclass(frozen=True)
class Placement:
    """What is quantised in a graph, for one target.

    Attributes:
        layers: names of the nodes that multiply integers, in the graph's order.
        kept: names of the other nodes with weights, and why each stays.
        groups: tensors that get a Q/DQ pair; those of one group share a scale.
    """

    layers: tuple[str, ...]
    kept: tuple[Kept, ...]
    groups: tuple[tuple[str, ...], ...]


def place(model: onnx.ModelProto, target: Target, keep: Collection[str] = ()) -> Placement:
    """Decide where Q/DQ pairs go.

    The rules: a layer's input is quantised, and nothing comes between it and its ReLU. For a CPU its result is, too:
    ONNX Runtime multiplies integers only where integers leave; and so are both branches of an addition whose sum is.
    For TensorRT an addition's identity branch alone is. A MaxPool and a Concat have one scale before and behind them.
    Left in float are layers of few channels, each head's last, and what has no constant weights.

    Args:
        model: a flat float32 graph whose nodes have names of their own.
        target: "cpu", "tensorrt" or "tensorrt8".
        keep: names of nodes to leave in float.

    Raises:
        ConfigError: an unknown target, or a node of `keep` that has no weights.
        ModelFileError: the graph is quantised already, or nodes share a name.
    """
    if target not in TARGETS:
        raise unknown_choice("target", target, TARGETS)
    check_flat(model)
    if any(node.op_type in QUANTISING for node in model.graph.node):
        raise ModelFileError("This model is quantised already. Use the float32 file that it was made from.")
    flow = Flow(model)
    weighted = [number for number in sorted(flow.weighted) if flow.nodes[number].op_type in _WEIGHTED]
    names = [flow.nodes[number].name for number in weighted]
    if len(set(names)) < len(names) or not all(names):
        raise ModelFileError("Nodes with weights need names of their own. Use a file written by nddr-export.")
    for name in keep:
        if name not in names:
            raise unknown_choice("keep", name, names)
    outputs = {value.name for value in model.graph.output}
    layers, kept = [], []
    for number in weighted:
        reason = _reason_to_keep(flow, number)
        if not reason and flow.nodes[number].input[0] in outputs:
            reason = "it reads an output of the graph"
        if not reason and flow.nodes[number].name in keep:
            reason = "it was asked to stay"
        if reason:
            kept.append(Kept(flow.nodes[number].name, reason))
        else:
            layers.append(number)
    groups = _Groups()
    for number in layers:
        groups.add(flow.nodes[number].input[0])
    _add_results(flow, groups, layers, target)
    _share(flow, groups)
    return Placement(tuple(flow.nodes[number].name for number in layers), tuple(kept), groups.without(outputs))


def _reason_to_keep(flow: Flow, number: int) -> str:
    node = flow.nodes[number]
    if node.op_type not in LAYERS:
        return f"a {node.op_type} is not quantised"
    if any(name not in flow.constants for name in node.input[1:] if name):
        return "its weights are computed"
    if _is_last(flow, number):
        return "it is the last layer of a head"
    if node.op_type == "Gemm" and _attribute(node, "transA", 0):
        return "it transposes its input"
    if node.op_type == "Gemm" and any(_attribute(node, name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return "it scales its product"
    fewest = _fewest_channels(flow, node)
    if fewest < FEWEST_CHANNELS:
        return f"it has {fewest} channels; with fewer than {FEWEST_CHANNELS} integers gain nothing"
    return ""


def _is_last(flow: Flow, number: int) -> bool:
    seen, waiting = {number}, list(flow.following(number))
    while waiting:
        reader = waiting.pop()
        if reader in flow.weighted:
            return False
        if reader not in seen:
            seen.add(reader)
            waiting.extend(flow.following(reader))
    return True


def _fewest_channels(flow: Flow, node: onnx.NodeProto) -> int:
    """Of what goes in and what comes out."""
    dims = flow.constants[node.input[1]].dims
    if node.op_type == "Conv":
        return int(min(dims[0], dims[1] * _attribute(node, "group", 1)))
    return int(min(dims))


def _add_results(flow: Flow, groups: _Groups, layers: Iterable[int], target: Target) -> None:
    """The results of layers (for a CPU), and the branches of additions."""
    made = {flow.nodes[number].output[0] for number in layers}
    if target == "cpu":
        for number in layers:
            groups.add(_behind_relu(flow, number))
    for number, node in enumerate(flow.nodes):
        if node.op_type not in ("Add", "Sum") or flow.roles[number] != "network":
            continue
        branches = [name for name in node.input if name not in flow.constants]
        if len(branches) < 2 or made.isdisjoint(branches):
            continue
        if target == "cpu":
            for name in (*branches, _behind_relu(flow, number)):
                groups.add(name)
        elif not any(name in groups for name in branches):
            identity = next((name for name in branches if name not in made), branches[-1])
            groups.add(identity)


def _behind_relu(flow: Flow, number: int) -> str:
    """The tensor that a node makes, or that the ReLU makes which alone reads it."""
    name: str = flow.nodes[number].output[0]
    readers = flow.readers.get(name, ())
    if len(readers) == 1 and flow.nodes[readers[0]].op_type == "Relu":
        name = flow.nodes[readers[0]].output[0]
    return name


def _share(flow: Flow, groups: _Groups) -> None:
    """One scale before and behind what only selects values, back and forth until nothing changes."""
    changed = True
    while changed:
        changed = False
        for node in flow.nodes:
            if node.op_type in _SHARING and node.output[0] in groups:
                for name in node.input[: 1 if node.op_type == "MaxPool" else None]:
                    changed |= groups.join(name, node.output[0])


class _Groups:
    """Tensors in the order in which they were added, some of them with one scale."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}
        self._members: dict[int, list[str]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._of

    def add(self, name: str) -> None:
        if name not in self._of:
            self._of[name] = len(self._of)
            self._members[self._of[name]] = [name]

    def join(self, one: str, other: str) -> bool:
        """Give both the same scale; whether that is news."""
        self.add(one)
        self.add(other)
        into, gone = self._of[other], self._of[one]
        if into == gone:
            return False
        for name in self._members.pop(gone):
            self._of[name] = into
            self._members[into].append(name)
        return True

    def without(self, names: Collection[str]) -> tuple[tuple[str, ...], ...]:
        kept = (tuple(name for name in members if name not in names) for members in self._members.values())
        return tuple(members for members in kept if members)


def _attribute(node: onnx.NodeProto, name: str, usual: float) -> float:
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    return usual if found is None else float(helper.get_attribute_value(found))
