"""Look at this machine and say what nddr-deploy can do here."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from nddr_deploy.doctor import commands, gpu, machine, media, ort, packages, runtimes, trt
from nddr_deploy.doctor.ask import tidy
from nddr_deploy.doctor.commands import Command
from nddr_deploy.doctor.facts import Facts
from nddr_deploy.doctor.finding import PROBLEM, Finding
from nddr_deploy.doctor.look import look
from nddr_deploy.doctor.report import Line, lines

FORM = 1  # of the JSON; a key that goes or changes its meaning raises it
EXAMINED = (machine, packages, gpu, trt, ort, runtimes, media)


@dataclass(frozen=True)
class Diagnosis:
    """What was found on a machine.

    Attributes:
        findings: everything that was looked at, grouped by subject.
        commands: what can run here.
    """

    findings: tuple[Finding, ...]
    commands: tuple[Command, ...]

    @property
    def ok(self) -> bool:
        """What is installed fits together; things that are missing are no problem."""
        return not self.problems

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.state == PROBLEM)

    def to_dict(self) -> dict[str, Any]:
        """For programs. Names no user, host or path of a home folder."""
        return {
            "form": FORM,
            "ok": self.ok,
            "findings": [finding.to_dict() for finding in self.findings],
            "commands": {command.name: command.to_dict() for command in self.commands},
        }

    def lines(self, width: int = 80) -> list[Line]:
        """For people, in lines of at most `width` characters, but for commands, which are never broken."""
        return lines(self.findings, self.commands, width=width)

    def text(self, width: int = 80) -> str:
        """`lines` without colours."""
        return "\n".join(line.text for line in self.lines(width))


def diagnose() -> Diagnosis:
    """Look at this machine: a few seconds, nothing is installed, changed or downloaded.

    >>> print(diagnose().text())        # doctest: +SKIP
    """
    return judge(look())


def _examine(subject: ModuleType, facts: Facts) -> list[Finding]:
    """A library that answers in a way that nobody thought of does not keep the rest from being told."""
    try:
        found: list[Finding] = subject.examine(facts)
    except Exception as error:
        name = subject.__name__.rpartition(".")[2]
        text = tidy(f"nddr-doctor cannot make sense of what it found: {type(error).__name__}: {error}")
        return [Finding("nddr-doctor", name, PROBLEM, text, ("Please report this, with nddr-doctor --json.",))]
    return found


def judge(facts: Facts) -> Diagnosis:
    """The findings of any machine whose facts are known."""
    findings = tuple(finding for subject in EXAMINED for finding in _examine(subject, facts))
    return Diagnosis(findings, commands.examine(facts, findings))
