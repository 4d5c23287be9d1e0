"""What a quantised graph is held to, for each target: the table of rules, and what breaks them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from nddr_deploy.errors import unknown_choice
from nddr_deploy.graph import lint_cpu, lint_grids, lint_places, lint_scales, lint_types
from nddr_deploy.graph.flat import check_flat
from nddr_deploy.graph.lint_rule import TARGETS, Finding, Rule, Target
from nddr_deploy.graph.quantised_flow import QuantisedFlow

__all__ = ["RULES", "TARGETS", "Finding", "Rule", "Target", "lint", "refused_by_tensorrt"]

RULES: tuple[Rule, ...] = (
    *lint_grids.FORM,
    *lint_grids.OPERATIONS,
    *lint_types.RULES,
    *lint_cpu.FORM,
    *lint_scales.RULES,
    *lint_places.PLACES,
    *lint_scales.HINTS,
    *lint_places.HINTS,
    *lint_grids.WEIGHTS,
    *lint_cpu.HINTS,
)


def lint(model: onnx.ModelProto, target: Target) -> tuple[Finding, ...]:
    """Everything in a quantised graph that a target would refuse, compute otherwise or not in int8; errors first.

    Nothing is run, and no manifest is needed: any flat ONNX graph can be looked at.

    >>> for finding in lint(onnx.load("model.int8.onnx"), "cpu"):      # doctest: +SKIP
    ...     print(finding.level, finding.rule, finding.message)

    Args:
        model: left as it was.
        target: "cpu" (ONNX Runtime and OpenVINO), "tensorrt" (10 and later) or "tensorrt8" (8.6).

    Raises:
        ConfigError: an unknown target.
        ModelFileError, UnsupportedError: a graph that is not flat, or whose weights are in another file.
    """
    if target not in TARGETS:
        raise unknown_choice("target", target, TARGETS)
    check_flat(model)
    graph = QuantisedFlow(model)
    found = [finding for rule in RULES for finding in rule.findings(graph, target)]
    return tuple(sorted(found, key=lambda finding: finding.level != "error"))


def refused_by_tensorrt(model: onnx.ModelProto, major: int) -> Iterator[Finding]:
    """What TensorRT would refuse in the Q/DQ nodes themselves, wherever they stand and whatever float type they have.

    Args:
        model: one flat graph.
        major: of TensorRT: 8, 10 or 11.
    """
    graph = QuantisedFlow(model)
    target: Target = "tensorrt8" if major == 8 else "tensorrt"
    return (finding for rule in lint_grids.FORM for finding in rule.findings(graph, target))
