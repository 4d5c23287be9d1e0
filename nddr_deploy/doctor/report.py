"""A diagnosis as lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from textwrap import wrap

from nddr_deploy.doctor.commands import Command
from nddr_deploy.doctor.finding import Finding

MARKS = {"ok": "✓", "missing": "-", "problem": "✗", "not here": "·"}
COLOURS = {"ok": "green", "missing": "yellow", "problem": "bold red", "not here": "dim"}
WHAT, WIDEST = 21, 110  # columns of what was looked at, and of a line: longer ones are hard to read
INDENT = 2 + 2 + 9 + 1 + WHAT + 1  # where the text of a finding begins
FITS = "What is installed fits together."


@dataclass(frozen=True)
class Line:
    """A line, of which the characters from `start` to `end` have a colour (a style of rich)."""

    text: str
    colour: str = ""
    start: int = 0
    end: int = 0


def lines(findings: Iterable[Finding], commands: Iterable[Command], *, width: int) -> list[Line]:
    """Everything, grouped by subject, and at the end what can run here."""
    width = max(60, min(width, WIDEST))
    found = list(findings)
    drawn: list[Line] = []
    told: set[tuple[str, ...]] = set()  # each remedy is told once
    for subject, group in groupby(found, key=lambda finding: finding.subject):
        drawn.append(_title(subject))
        for finding in group:
            drawn += _finding(finding, width)
            drawn += _remedy(("As above.",) if finding.do in told else finding.do, width)
            told |= {finding.do} - {()}
        drawn.append(Line(""))
    drawn.append(_title("What can run here"))
    for command in commands:
        drawn += _command(command, width)
    drawn.append(Line(""))
    drawn += _verdict(found, width)
    return drawn


def _title(text: str) -> Line:
    return Line(text, "bold", 0, len(text))


def _finding(finding: Finding, width: int) -> list[Line]:
    mark = f"  {MARKS[finding.state]} {finding.state:<9} "
    # What is too long for its column stands alone; a subject's own name goes without saying.
    texts = wrap(finding.found, width - INDENT, break_on_hyphens=False) or [""]
    head = f"{mark}{finding.what:<{WHAT}} "
    rows = [head + texts[0]] if len(finding.what) <= WHAT else [head.rstrip(), " " * INDENT + texts[0]]
    rows += [" " * INDENT + text for text in texts[1:]]
    return [Line(rows[0], COLOURS[finding.state], 2, len(mark)), *(Line(row) for row in rows[1:])]


def _remedy(steps: Sequence[str], width: int) -> list[Line]:
    """Commands stand on a line of their own, whole, to be copied; sentences are wrapped."""
    drawn = []
    for step in steps:
        if _is_command(step):
            text = f"{' ' * 14}$ {step}"
            drawn.append(Line(text, "cyan", 16, len(text)))
        else:
            rows = wrap(step, width - 16, break_long_words=False, break_on_hyphens=False)
            drawn += [Line(f"{' ' * 14}{'>' if not index else ' '} {row}") for index, row in enumerate(rows)]
    return drawn


def _is_command(step: str) -> bool:
    return step[:1].islower()


def _command(command: Command, width: int) -> list[Line]:
    """`nddr-infer  runs with onnxruntime, openvino` and, below, what stops the rest."""
    state = "ok" if command.runs else "not here"
    begin = f"  {MARKS[state]} {command.name:<12} "
    if not command.runs:
        return _block(begin, f"cannot run: {command.stopped[command.name]}", width, COLOURS[state])
    drawn = _block(begin, f"{command.verb} {_list(command.ways)}", width, COLOURS[state])
    by_reason: dict[str, list[str]] = {}
    for way, reason in command.stopped.items():
        by_reason.setdefault(reason, []).append(way)
    for reason, ways in by_reason.items():
        drawn += _block(" " * len(begin), f"{command.no} {_list(ways, 'or')}: {reason}", width, "")
    return drawn


def _block(begin: str, text: str, width: int, colour: str) -> list[Line]:
    rows = wrap(text, width - len(begin), break_on_hyphens=False)
    first = Line(begin + rows[0], colour, 2, len(begin) if colour else 0)
    return [first, *(Line(" " * len(begin) + row) for row in rows[1:])]


def _list(names: Sequence[str], conjunction: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {conjunction} {names[-1]}"


def _name(finding: Finding) -> str:
    return finding.what if finding.what == finding.subject else f"{finding.subject} ({finding.what})"


def _verdict(findings: Sequence[Finding], width: int) -> list[Line]:
    problems = [finding for finding in findings if finding.state == "problem"]
    if not problems:
        return [Line(FITS, "green", 0, len(FITS))]
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    named = ", ".join(dict.fromkeys(_name(finding) for finding in problems))
    rows = wrap(f"{count} to mend: {named}. The commands are above.", width)
    return [Line(row, "bold red", 0, len(row)) for row in rows]
