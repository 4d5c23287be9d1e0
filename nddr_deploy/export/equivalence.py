"""Layer by layer: does the folded network compute what the traced one does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from nddr_deploy.export.fold import Folded


def layer_differences(
    traced: fx.GraphModule, folded: fx.GraphModule, report: Sequence[Folded], example: Sequence[Tensor]
) -> dict[str, float]:
    """Layer name -> the largest difference at that layer, as a share of the range of the traced network's values there.

    Both networks run side by side, node by node, so only values that are still needed are held.
    """
    watched = {new: old for entry in report for old, new in entry.watched}
    before, after = _Walk(traced, example), _Walk(folded, example)
    names_after = {node.name for node in folded.graph.nodes}
    differences: dict[str, float] = {}
    kept: dict[str, Tensor] = {}
    originals = set(watched.values())
    with torch.no_grad():
        for node in traced.graph.nodes:
            if node.op == "output":
                break
            value = before.run(node)
            if node.name in names_after:
                made = after.run(node)
                if node.name in watched:
                    kept[node.name] = made
            if node.name in originals:
                for new in [new for new in kept if watched[new] == node.name]:
                    differences[new] = _relative(value, kept.pop(new))
    return {entry.layer: max((differences[new] for _, new in entry.watched), default=0.0) for entry in report}


class _Walk:
    """Runs a graph one node at a time and forgets a value after its last use."""

    def __init__(self, module: fx.GraphModule, example: Sequence[Tensor]) -> None:
        self._interpreter = fx.Interpreter(module, garbage_collect_values=False)
        self._interpreter.args_iter = iter(example)
        self._nodes = {node.name: node for node in module.graph.nodes}
        self._last: Mapping[fx.Node, list[fx.Node]] = _last_uses(module.graph)

    def run(self, node: fx.Node) -> Any:
        own = self._nodes[node.name]
        environment = self._interpreter.env
        environment[own] = self._interpreter.run_node(own)
        value = environment[own]
        for done in self._last.get(own, []):
            environment.pop(done, None)
        return value


def _last_uses(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    seen: set[fx.Node] = set()
    uses: dict[fx.Node, list[fx.Node]] = {}
    for node in reversed(graph.nodes):
        for source in node.all_input_nodes:
            if source not in seen:
                seen.add(source)
                uses.setdefault(node, []).append(source)
    return uses


def _relative(expected: Tensor, found: Tensor) -> float:
    extent = float(expected.max() - expected.min()) or 1.0
    return float((found - expected).abs().max()) / extent
