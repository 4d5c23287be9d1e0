"""Which nodes of a float32 graph FP16 cannot compute, and why.

FP16 holds values up to 65504 with 11 bits down to 6.1e-5, fewer bits below, and none below 6e-8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from nddr_deploy.errors import ConfigError
from nddr_deploy.graph.flat import check_flat
from nddr_deploy.graph.inference import infer, skeleton, tensor_shapes, tensor_types
from nddr_deploy.graph.roles import QUANTISING, Flow
from nddr_deploy.tasks.base import Array

LARGEST = 65504 / 2  # of activations: images that were not scanned may reach twice as far
LARGEST_WEIGHT = 65504.0
LOSS = 2**-8  # of a weight's size, root mean square, that rounding may take: 14 times what it takes from normal values
SMALLEST = 2**-17  # FP16's steps of 2**-24 there are LOSS of the value

_SUMS = {"GlobalAveragePool", "AveragePool", "ReduceMean", "ReduceSum", "ReduceL1", "CumSum"}
_NORMALISATIONS = {
    *("LayerNormalization", "InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization"),
    *("RMSNormalization", "LpNormalization", "LRN"),
}
_SQUARES = {"ReduceL2", "ReduceSumSquare", "GlobalLpPool", "LpPool", *_NORMALISATIONS}
_UNBOUNDED = {"ReduceLogSum", "ReduceLogSumExp", "ReduceProd"}
_BOUNDS = {"Clip": (1, 2), "Pad": (2,)}  # inputs for which an infinity, or FP16's largest in its place, does as well


@dataclass(frozen=True)
class Kept:
    """A node that stays in FP32.

    Attributes:
        node: its name in the graph.
        reason: for people, with the tensor and the number that decided.
    """

    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}"


def beyond_fp16(model: onnx.ModelProto, ranges: Mapping[str, float]) -> tuple[Kept, ...]:
    """The nodes of a float32 graph that FP16 cannot compute, in the graph's order.

    A node is named where a tensor that it reads or makes exceeds half of what FP16 holds, or stays so small that FP16
    has 8 bits for it or fewer; where a weight of its loses 0.4 % to rounding; where a sum (or a sum of squares) that
    it forms on the way may exceed it, judged by the largest value times the number of values; where it divides by
    values that may vanish; and where it would stand alone between nodes that stay in FP32.

    Sums inside convolutions and matrix products are not judged: most kernels add in FP32; those of TensorRT 8.6 that
    add in FP16 lose bits, which is for the comparison after a build to find.

    Args:
        model: with one flat graph, left as it was. Extents that are open make sums over them count as too large.
        ranges: from `scan_ranges` of this model, or of one with the same tensors.

    Raises:
        ConfigError: a tensor of the network has no range.
    """
    check_flat(model)
    flow = Flow(model)
    reasons = limits(model, flow, ranges)
    stand_between(flow, reasons, (number for number in range(len(flow.nodes)) if flow.roles[number] == "network"))
    return tuple(Kept(flow.nodes[number].name, reasons[number]) for number in sorted(reasons))


def limits(model: onnx.ModelProto, flow: Flow, ranges: Mapping[str, float]) -> dict[int, str]:
    """Node number -> why it stays in FP32, for every node of which the ranges tell."""
    types = tensor_types(model)
    known = dict(ranges)
    shapes = tensor_shapes(infer(skeleton(model)))
    weights = {weight.name: weight for weight in model.graph.initializer}
    small: dict[str, str] = {}
    for name, weight in weights.items():
        if weight.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(weight)
            known[name] = float(np.abs(values).max()) if values.size else 0.0
            small[name] = lost(name, values)
    for node in flow.nodes:
        if node.op_type == "DequantizeLinear" and node.output[0] not in known and node.input[1] in known:
            known[node.output[0]] = 128 * known[node.input[1]]  # for 8 bits; a quantiser may add it after the scan
    reasons: dict[int, str] = {}
    for number, node in enumerate(flow.nodes):
        floats = [name for name in (*_read(node), *node.output) if types.get(name) == TensorProto.FLOAT]
        missing = [name for name in floats if name not in known]
        if missing and flow.roles[number] == "network":
            raise ConfigError(
                f"ranges: nothing is known of {missing[0]!r} at {node.op_type} node {node.name!r}. Scan the ranges of "
                "this very model."
            )
        bounds = {node.input[place] for place in _BOUNDS.get(node.op_type, ()) if place < len(node.input)}
        texts = (_tensor_limit(name, known.get(name), small.get(name), is_bound=name in bounds) for name in floats)
        reason = next(filter(None, texts), "") or _inner_limit(node, known, shapes, flow)
        if reason and flow.roles[number] != "sizes":
            reasons[number] = reason
    return reasons


def stand_between(flow: Flow, reasons: dict[int, str], network: Iterable[int]) -> None:
    """Add, in place, groups of nodes without a weighted one among them whose neighbours all are in FP32.

    They would cost two casts, and bits, for nothing.

    Args:
        network: the nodes that would be in FP16 but for `reasons`. What dequantises only joins a group to its readers.
    """
    joints = {number for number in flow.reached if flow.nodes[number].op_type == "DequantizeLinear"}
    left = {number for number in network if number not in reasons and number in flow.reached} | joints
    while left:
        group, waiting = set(), [left.pop()]
        while waiting:
            number = waiting.pop()
            group.add(number)
            near = left.intersection((*flow.following(number), *flow.preceding(number)))
            left -= near
            waiting.extend(near)
        if group.isdisjoint(flow.weighted):
            reasons.update(dict.fromkeys(group - joints, "it stands between nodes in FP32"))


def lost(name: str, values: Array) -> str:
    """What rounding to FP16 takes from a weight or a scale, as a reason; empty where that is little."""
    finite = np.where(np.isfinite(values), values, 0).astype(np.float64)
    size = np.sqrt(np.mean(finite**2)) if finite.size else 0.0
    with np.errstate(over="ignore"):
        rounded = finite.astype(np.float16).astype(np.float64)
    if size == 0 or not np.isfinite(rounded).all():
        return ""  # what is too large has a reason of its own
    share = float(np.sqrt(np.mean((rounded - finite) ** 2)) / size)
    if share <= LOSS:
        return ""
    return f"{name!r} loses {share:.1%} to rounding in FP16; its largest value is {np.abs(finite).max():.2g}"


def _read(node: onnx.NodeProto) -> Sequence[str]:
    """The inputs that would be FP16, as the node itself would: not a Resize's sizes, and not a scale of Q/DQ, which
    is judged where it becomes FP16."""
    return list(node.input[:1] if node.op_type in ("Resize", *QUANTISING) else node.input)


def _tensor_limit(name: str, largest: float | None, lost_weight: str | None, *, is_bound: bool) -> str:
    """Why a tensor cannot be FP16.

    Args:
        lost_weight: of a weight, from `lost`; None for what a node makes.
        is_bound: larger than everything does as well.
    """
    is_weight = lost_weight is not None
    if lost_weight or largest is None or largest == 0:
        return lost_weight or ""
    if largest > (LARGEST_WEIGHT if is_weight else LARGEST) and not is_bound:
        margin = "" if is_weight else ", half of which is a margin for other images"
        return f"{name!r} reaches {largest:.4g}; FP16 holds 65504{margin}"
    if largest < SMALLEST and not is_weight:
        return f"{name!r} stays below {largest:.2g}, where FP16 has few bits or none"
    return ""


def _inner_limit(
    node: onnx.NodeProto, known: Mapping[str, float], shapes: Mapping[str, Sequence[int | None]], flow: Flow
) -> str:
    """What happens inside a node, or to values whose largest one tells nothing."""
    operation = node.op_type
    if operation in _UNBOUNDED:
        return f"{operation} forms values on the way that no scan sees"
    divisor = {"Div": 1, "Reciprocal": 0, "Log": 0}.get(operation)
    if divisor is not None and node.input[divisor] not in flow.constants:
        return f"it {'takes the logarithm of' if operation == 'Log' else 'divides by'} values that may vanish in FP16"
    largest = known.get(node.input[0]) if node.input else None
    if largest is None:
        return ""
    if operation == "Gelu" and _text(node, "approximate") == "tanh" and largest**3 > LARGEST:
        return f"it forms cubes of up to {largest**3:.3g} on the way"
    if operation not in _SUMS | _SQUARES:
        return ""
    count = _summed(node, shapes, flow)
    if count is None:
        return "it adds up a number of values that is open"
    total = count * (largest**2 if operation in _SQUARES else largest)
    if total <= LARGEST:
        return ""
    squares = "squares of values" if operation in _SQUARES else "values"
    return f"its sum of {count} {squares} of up to {largest:.3g} may exceed what FP16 holds"


def _summed(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int | None]], flow: Flow) -> int | None:
    """How many values one of the node's sums has; None where that is open."""
    if node.op_type in ("AveragePool", "LpPool"):
        return prod(_numbers(node, "kernel_shape"))
    if node.op_type == "LRN":
        return _number(node, "size", 1)
    if node.input[0] not in shapes:
        return None
    shape = shapes[node.input[0]]
    count = _product(shape)
    if node.op_type.startswith("Reduce"):
        axes = _axes(node, flow)
        return count if axes is None else _product(shape[axis] for axis in axes)
    if node.op_type in ("LayerNormalization", "RMSNormalization"):
        return _product(shape[_number(node, "axis", -1) :])
    if node.op_type == "LpNormalization":
        return shape[_number(node, "axis", -1)]
    if node.op_type == "GroupNormalization":
        each = _product(shape[1:])
        return None if each is None else each // max(1, _number(node, "num_groups", 1))
    if node.op_type in ("MeanVarianceNormalization", "CumSum"):
        return count
    return _product(shape[2:])


def _axes(node: onnx.NodeProto, flow: Flow) -> list[int] | None:
    """What a reduction goes over; None where that is everything, or is not known."""
    given = node.input[1] if len(node.input) > 1 else ""
    if given in flow.constants:
        return [int(axis) for axis in numpy_helper.to_array(flow.constants[given]).ravel()] or None
    return _numbers(node, "axes") or None


def _product(shape: Iterable[int | None]) -> int | None:
    total = 1
    for extent in shape:
        if extent is None:
            return None
        total *= extent
    return total


def _number(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _numbers(node: onnx.NodeProto, name: str) -> list[int]:
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == name), [])


def _text(node: onnx.NodeProto, name: str) -> str:
    return next((attribute.s.decode() for attribute in node.attribute if attribute.name == name), "")
