"""The command nddr-lint: is a quantised graph as its target needs it?"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nddr_deploy.command import Parser, run_command

if TYPE_CHECKING:
    from nddr_deploy.graph.quantize_lint import Finding

TARGETS = ("cpu", "tensorrt", "tensorrt8")  # those of quantize_lint, which would load ONNX for a mere --help
SHOWN = 3  # nodes of a rule that are spelled out; graphs break a rule everywhere, or nearly nowhere

DESCRIPTION = """Look for what a runtime would refuse, compute otherwise than it should, or not compute in int8.

Takes any ONNX graph with QuantizeLinear/DequantizeLinear nodes, written by nddr-export or not; runs nothing, changes
nothing."""

EPILOG = """targets:
  cpu        ONNX Runtime and OpenVINO: uint8 activations, int8 weights per channel, int32 biases
  tensorrt   TensorRT 10 and later: int8 around zero, biases in float, opset 19, the rest FP16
  tensorrt8  TensorRT 8.6: int8 around zero, zero points written down, opset 17, the rest FP32

examples:
  nddr-lint model.int8.onnx --target cpu
  nddr-lint model.int8.trt.onnx --target tensorrt --json findings.json
  nddr-lint --rules

exit status: 0 no errors (there may be warnings); 1 errors; 2 wrong options, no such file, no flat ONNX graph"""


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.rules:
        _print_rules(arguments.target)
        return 0
    if arguments.model is None or arguments.target is None:
        parser.error("give a model and its --target, or --rules")

    from nddr_deploy.graph.metadata import read_model
    from nddr_deploy.graph.quantize_lint import lint

    found = lint(read_model(arguments.model), arguments.target)
    errors = sum(finding.level == "error" for finding in found)
    _print_findings(found, every=arguments.all)
    warnings = len(found) - errors
    print(f"{arguments.model} for {arguments.target}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    if arguments.json:
        _write_json(arguments, found)
    return 1 if errors else 0


def _parser() -> Parser:
    parser = Parser("nddr-lint", DESCRIPTION, epilog=EPILOG)
    parser.add_argument("model", nargs="?", metavar="MODEL.onnx", help="a quantised graph")
    parser.add_argument("--target", choices=TARGETS, metavar="T", help="what it is for: cpu, tensorrt or tensorrt8")
    parser.add_argument("--all", action="store_true", help=f"every finding, not the first {SHOWN} of each rule")
    parser.add_argument("--json", metavar="FILE", help="also write every finding to FILE")
    parser.add_argument("--rules", action="store_true", help="list the rules (those of --target, or all), and stop")
    return parser


def _print_findings(found: Sequence[Finding], *, every: bool) -> None:
    """One block a rule, errors first: the sentence, and below it the nodes that it holds for, too."""
    from itertools import groupby
    from textwrap import fill

    for (level, rule), group in groupby(found, key=lambda finding: (finding.level, finding.rule)):
        findings = list(group)
        print(f"{level}: {rule}" + (f" ({len(findings)} times)" if len(findings) > 1 else ""))
        shown = findings if every else findings[:SHOWN]
        for finding in shown:
            print(fill(finding.message, 110, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False))
        if len(findings) > len(shown):
            print(f"  and {len(findings) - len(shown)} more of the kind (--all shows them)")
        print()


def _print_rules(target: str | None) -> None:
    from nddr_deploy.graph.quantize_lint import RULES

    rules = [rule for rule in RULES if target is None or target in rule.targets]
    width = max(len(rule.name) for rule in rules)
    for rule in rules:
        targets = "all targets" if len(rule.targets) == len(TARGETS) else ", ".join(rule.targets)
        print(f"{rule.name:<{width}}  {rule.level:<7}  {targets:<19}  {rule.text}")


def _write_json(arguments: argparse.Namespace, found: Sequence[Finding]) -> None:
    from dataclasses import asdict

    from nddr_deploy.files import finished_file

    report = {
        "model": arguments.model,
        "target": arguments.target,
        "errors": sum(finding.level == "error" for finding in found),
        "warnings": sum(finding.level == "warning" for finding in found),
        "findings": [asdict(finding) for finding in found],
    }
    with finished_file(arguments.json) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {arguments.json}")


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
