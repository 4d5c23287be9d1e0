"""Rules for which tensors share a scale, and how often a tensor is quantised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnx import TensorProto

from nddr_deploy.graph.lint_rule import TARGETS, TENSORRT, Found, Rule, Target
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
    for number, name, found, grid in _joined(graph):
        # A ReLU vanishes in a grid that starts at zero alone; ONNX Runtime's integer Concat takes several grids.
        one_sided = target == "cpu" and _starts_at_zero(found) and not _starts_at_zero(grid)
        if graph.dequantiser(name) is not None and not one_sided:
            yield (
                number,
                f"{graph.named(number)} joins {graph.before_pair(name)!r}, on {found}, into "
                f"{graph.node(number).output[0]!r}, on {grid}; all inputs of a Concat and its output share one scale, "
                "or values are rounded twice on the way. Give all of them the scale of the output.",
            )


def concat_past_pair(graph: QuantisedFlow, target: Target) -> Found:
    for number, name, found, grid in _joined(graph):
        if graph.dequantiser(name) is None:
            yield (
                number,
                f"{graph.named(number)} reads {name!r} in float, which others read on {found}; TensorRT quantises the "
                f"inputs of a Concat for its output, on {grid}, so that tensor is quantised twice. Give it the scale "
                "of the output.",
            )


def _joined(graph: QuantisedFlow) -> Iterator[tuple[int, str, Grid, Grid]]:
    """Each input of a Concat whose grid is another than that of the quantised result; with both grids."""
    for number in graph.moving(("Concat",)):
        node = graph.node(number)
        put_on = graph.quantisers(node.output[0])
        for name in node.input if put_on else ():
            found = graph.grid_of(name) if graph.is_activation(name) else None
            if found is not None and not found.same(graph.grid(put_on[0])):
                yield number, name, found, graph.grid(put_on[0])


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
    Rule("concat", "error", TENSORRT, "the inputs of a Concat and its output share one scale", concat),
    Rule("max-pool", "error", TARGETS, "a MaxPool has one scale before and behind it", pooling),
)
HINTS = (
    Rule("concat", "warning", ("cpu",), "the inputs of a Concat and its output share one scale", concat),
    Rule(
        "concat-input", "warning", TENSORRT, "what a Concat reads in float is on its scale elsewhere", concat_past_pair
    ),
    Rule(
        "same-scale",
        "warning",
        TARGETS,
        "what else only selects values (Slice, Expand, ...) keeps the scale",
        selecting,
    ),
    Rule("quantised-once", "warning", TARGETS, "one pair per tensor serves all its readers", quantised_once),
)
