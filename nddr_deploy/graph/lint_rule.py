"""What a rule for quantised graphs is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from nddr_deploy.graph.quantised_flow import QuantisedFlow, name_of

Target = Literal["cpu", "tensorrt", "tensorrt8"]
Level = Literal["error", "warning"]
TARGETS: tuple[Target, ...] = ("cpu", "tensorrt", "tensorrt8")  # tensorrt: 10 and later; tensorrt8: 8.6
TENSORRT: tuple[Target, ...] = ("tensorrt", "tensorrt8")

Found = Iterator[tuple[int | None, str]]  # number of the node, None for the whole graph, and what is said of it

_SYMMETRIC = (
    "Quantise symmetrically with signed 8 bits: nddr-quantize --target {}, or activation_type and weight_type QInt8, "
    "ActivationSymmetric, WeightSymmetric, and QuantizeBias off in onnxruntime.quantization"
)
AGAIN: dict[Target, str] = {
    "cpu": (
        "Quantise for CPUs: nddr-quantize --target cpu, or activation_type QUInt8, weight_type QInt8 and per_channel "
        "in onnxruntime.quantization"
    ),
    "tensorrt": _SYMMETRIC.format("tensorrt"),
    "tensorrt8": _SYMMETRIC.format("tensorrt8"),
}


@dataclass(frozen=True)
class Finding:
    """A place in a graph that breaks a rule.

    Attributes:
        rule: its name.
        node: name of the node; empty where it is the whole graph.
        message: what was found, what was expected, and what to do.
        level: "error": the runtime refuses it, computes something else than it should, or does not compute the layer
            in int8. "warning": it costs speed or accuracy.
    """

    rule: str
    node: str
    message: str
    level: Level


@dataclass(frozen=True)
class Rule:
    """One thing that a quantised graph is held to.

    Attributes:
        name: short, as users write it.
        level: of its findings.
        targets: that it holds for.
        text: what is expected, in one line.
        check: finds what breaks it.
    """

    name: str
    level: Level
    targets: tuple[Target, ...]
    text: str
    check: Callable[[QuantisedFlow, Target], Found]

    def findings(self, graph: QuantisedFlow, target: Target) -> Iterator[Finding]:
        """In the graph's order; none where the rule does not hold for the target."""
        if target in self.targets:
            for number, message in self.check(graph, target):
                node = "" if number is None else name_of(graph.node(number))
                yield Finding(self.name, node, message, self.level)
