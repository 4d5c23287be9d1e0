"""Rules for which tensors share a scale, and how often a tensor is quantised."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import TensorProto

from nddr_deploy.graph.lint_rule import TARGETS, Found, Rule, Target
from nddr_deploy.graph.quantised_flow import Grid, QuantisedFlow

_POOLING = ("MaxPool", "GlobalMaxPool")
_SELECTING = (  # as those two, every value that they return is one of those that they take
    *("Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Expand"),
    *("DepthToSpace", "SpaceToDepth", "Tile"),
)


def one_scale(graph: QuantisedFlow, target: Target) -> Found:
    for tensor, first, others in _quantised_again(graph):
        grid = graph.grid(first)
        different = [number for number in others if not grid.same(graph.grid(number))]
        if different:
            yield (
                different[0],
                f"{tensor!r} is quantised by {graph.named(first)} with {grid} and by {graph.named(different[0])} with "
                f"{graph.grid(different[0])}; a tensor has one scale. Quantise it once, and let all its readers read "
                "that pair.",
            )


def quantised_once(graph: QuantisedFlow, target: Target) -> Found:
    for tensor, first, others in _quantised_again(graph):
        if all(graph.grid(first).same(graph.grid(number)) for number in others):
            yield (
                others[0],
                f"{tensor!r} is quantised {len(others) + 1} times with the same scale; once is enough. Let all its "
                "readers read the same pair.",
            )


def _quantised_again(graph: QuantisedFlow) -> list[tuple[str, int, Sequence[int]]]:
    """Tensors with several QuantizeLinear nodes: the tensor, the first node, the others."""
    numbers = {tensor: graph.quantisers(tensor) for tensor in graph.flow.readers}
    return [(tensor, found[0], found[1:]) for tensor, found in numbers.items() if len(found) > 1]


def requantised(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.quantising:
        source = graph.node(number).input[0]
        before = graph.dequantiser(source)
        if graph.operation(number) == "QuantizeLinear" and before is not None:
            yield (
                number,
                f"{graph.named(number)} quantises what {graph.named(before)} has just dequantised; a tensor is "
                "quantised once. Remove one of the two pairs.",
            )


def concat(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.moving(("Concat",)):
        node = graph.node(number)
        put_on = graph.quantisers(node.output[0])
        if not put_on:
            continue  # it is read in float, and then its inputs may have any scale
        grid = graph.grid(put_on[0])
        # A ReLU vanishes in a grid that starts at zero alone; ONNX Runtime's integer Concat takes several grids.
        activations = [name for name in node.input if graph.is_activation(name)]
        other = _first_on_another(graph, activations, grid, one_sided=target == "cpu")
        if other is not None:
            yield (
                number,
                f"{graph.named(number)} joins {other[0]!r}, on {other[1]}, into {node.output[0]!r}, on {grid}; all "
                "inputs of a Concat and its output share one scale, or values are rounded twice on the way. Give "
                "all of them the scale of the output.",
            )


def _first_on_another(
    graph: QuantisedFlow, names: Sequence[str], grid: Grid, *, one_sided: bool
) -> tuple[str, Grid] | None:
    """The first tensor on another grid.

    Args:
        one_sided: let one that starts at zero keep that zero point where the grid has another one.
    """
    for name in names:
        found = graph.grid_of(name)
        if found is None or found.same(grid):
            continue
        if not (one_sided and _starts_at_zero(found) and not _starts_at_zero(grid)):
            return graph.before_pair(name), found
    return None


def _starts_at_zero(grid: Grid) -> bool:
    return grid.kind == TensorProto.UINT8 and grid.zero_point is not None and not grid.zero_point.any()


def pooling(graph: QuantisedFlow, target: Target) -> Found:
    return _keeps_scale(graph, _POOLING)


def selecting(graph: QuantisedFlow, target: Target) -> Found:
    return _keeps_scale(graph, _SELECTING)


def _keeps_scale(graph: QuantisedFlow, operations: Sequence[str]) -> Found:
    for number in graph.moving(operations):
        node = graph.node(number)
        before = graph.grid_of(node.input[0])
        for name in node.output:
            after = next((graph.grid(reader) for reader in graph.quantisers(name)), None)
            if before is not None and after is not None and not before.same(after):
                yield (
                    number,
                    f"{graph.named(number)} has {before} before it and {after} behind it; it only selects values, so "
                    "they share one scale, or values are rounded twice. Give its output the scale of its input.",
                )


RULES = (
    Rule("one-scale", "error", TARGETS, "a tensor is on one scale", one_scale),
    Rule("requantised", "error", TARGETS, "no pair follows a pair", requantised),
    Rule("concat", "error", TARGETS, "the inputs of a Concat and its output share one scale", concat),
    Rule("max-pool", "error", TARGETS, "a MaxPool has one scale before and behind it", pooling),
)
HINTS = (
    Rule(
        "same-scale",
        "warning",
        TARGETS,
        "what else only selects values (Slice, Expand, ...) keeps the scale",
        selecting,
    ),
    Rule("quantised-once", "warning", TARGETS, "one pair per tensor serves all its readers", quantised_once),
)
