"""Where a model's arithmetic and its parameters are: by part, by stream, and by the outputs that need them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

import onnx
from onnx import TensorProto

from nddr_deploy.graph.flops import node_flops
from nddr_deploy.graph.in_float import in_float
from nddr_deploy.graph.roles import Flow

MOST_SUBSETS = 4  # tasks of which every subset is told; of more, the single ones and all but one
ALL = ""  # the stream of what every task shares
_NAMES = (  # of nodes and weights, as nddr-export gives them: part, stream
    re.compile(r"(stages\.\d+)\.([^./]+)[./]"),
    re.compile(r"(fusions\.\d+)\.layers\.([^./]+)[./]"),
    re.compile(r"(shortcut|depth_mixing)\.layers\.([^./]+)[./]"),
    re.compile(r"(heads)\.([^./]+)[./]"),
)
_MIXES = re.compile(r"(fusions|depth_mixing)_(?:(\d+)_mix|layers_(.+?)_beta)_")  # computed from weights by the export


@dataclass(frozen=True)
class Cost:
    """What one part of one stream takes, as far as the same outputs need it.

    Attributes:
        part: "input", "stages.0", "fusions.0", "shortcut", "depth_mixing", "heads", "decoding"; "network" where the
            nodes' names do not say.
        stream: the task's name; empty for what belongs to no single stream.
        needed_by: the outputs that cannot do without.
        flops: of one pass, as `count_flops` has them.
        parameters: numbers in floating-point weights (of quantised ones: that they stand for).
    """

    part: str
    stream: str
    needed_by: tuple[str, ...]
    flops: int
    parameters: int


@dataclass(frozen=True)
class Subset:
    """What is left of a model that returns only some of its tasks: all that no chosen output needs is cut.

    Attributes:
        tasks: those that are kept.
        flops, parameters: that remain.
        flops_share, parameters_share: of the whole model's.
    """

    tasks: tuple[str, ...]
    flops: int
    parameters: int
    flops_share: float
    parameters_share: float


def costs(model: onnx.ModelProto, size_hw: tuple[int, int], *, batch: int = 1) -> tuple[Cost, ...]:
    """Every part's arithmetic and parameters, in the order of the graph.

    Args:
        model: left as it was; quantised and FP16 graphs are counted as what they stand for.
        size_hw, batch: of the images, where the graph leaves them open.

    Raises:
        ModelFileError, UnsupportedError: as `in_float` and `count_flops`.
    """
    plain = in_float(model)
    flow = Flow(plain)
    outputs = [value.name for value in plain.graph.output]
    needed = _needed_by(flow, outputs)
    flops = node_flops(plain, size_hw, batch=batch)
    found: dict[tuple[str, str, tuple[str, ...]], list[int]] = defaultdict(lambda: [0, 0])
    for number, node in enumerate(flow.nodes):
        needs = tuple(name for name in outputs if name in needed[number])
        found[(*_place(node.name, flow.roles[number]), needs)][0] += flops[number]
    for weight in plain.graph.initializer:
        readers = flow.readers.get(weight.name, [])
        if weight.data_type not in (TensorProto.FLOAT, TensorProto.DOUBLE) or not readers:
            continue
        needs = tuple(name for name in outputs if any(name in needed[reader] for reader in readers))
        role, first = flow.roles[readers[0]], flow.nodes[readers[0]].name
        place = _by_name(weight.name) or _place(first, role)
        found[(*place, needs)][1] += prod(weight.dims)
    return tuple(Cost(*key, *value) for key, value in found.items() if any(value))


def subsets(found: Sequence[Cost], tasks: Sequence[str]) -> tuple[Subset, ...]:
    """What `--tasks` would leave: every subset of up to `MOST_SUBSETS` tasks, else each alone and all but each.

    Args:
        found: from `costs`.
        tasks: of the model, in its order.
    """
    sizes = range(1, len(tasks)) if len(tasks) <= MOST_SUBSETS else sorted({1, len(tasks) - 1})
    whole = _remaining(found, tasks)
    return tuple(
        Subset(chosen, left[0], left[1], left[0] / max(whole[0], 1), left[1] / max(whole[1], 1))
        for size in sizes
        for chosen in combinations(tasks, size)
        for left in [_remaining(found, chosen)]
    )


def _remaining(found: Sequence[Cost], tasks: Collection[str]) -> tuple[int, int]:
    """Arithmetic and parameters that these outputs need."""
    kept = [cost for cost in found if set(tasks).intersection(cost.needed_by)]
    return sum(cost.flops for cost in kept), sum(cost.parameters for cost in kept)


def _needed_by(flow: Flow, outputs: Sequence[str]) -> list[set[str]]:
    """Per node the outputs that it leads to."""
    needed: list[set[str]] = [set() for _ in flow.nodes]
    for output in outputs:
        waiting = [flow.makers[output]] if output in flow.makers else []
        while waiting:
            number = waiting.pop()
            if output not in needed[number]:
                needed[number].add(output)
                waiting.extend(flow.preceding(number))
    return needed


def _place(name: str, role: str) -> tuple[str, str]:
    """Part and stream of a node; what its role says goes before its name, which it has from what it follows."""
    named = _by_name(name)
    if role == "preprocessing":
        return "input", ALL
    if role == "decoding" and named is None:
        return "decoding", ALL
    return named or ("network", ALL)


def _by_name(name: str) -> tuple[str, str] | None:
    for pattern in _NAMES:
        match = pattern.match(name)
        if match:
            return match[1], match[2]
    mixed = _MIXES.match(name)
    if mixed:
        return (f"{mixed[1]}.{mixed[2]}", ALL) if mixed[2] else (mixed[1], mixed[3])
    return None
