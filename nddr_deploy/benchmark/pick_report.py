"""What a pick found, for people and as JSON."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nddr_deploy.benchmark.pick_choice import Decision, Judged
from nddr_deploy.benchmark.pick_data import Judge
from nddr_deploy.benchmark.pick_files import Contenders
from nddr_deploy.engines.machine import Machine
from nddr_deploy.evaluate.budget import Budget
from nddr_deploy.evaluate.sample_scores import Change
from nddr_deploy.manifest import Manifest
from nddr_deploy.page.figures import change_text, value_text


@dataclass(frozen=True)
class PickReport:
    """Every case, and the one that was chosen.

    Attributes:
        contenders: the files, and what could not run.
        manifest: of the model.
        judge: samples and budgets.
        judged: the cases that ran, in the order of measuring.
        decision: the choice, and why.
        clock: "wall", or "processor": see `pick.clock_of`.
        threads: of a pass; `threads_asked` is None where that is this machine's own number.
        card: that the choice was written into; its page lies beside it.
    """

    contenders: Contenders
    manifest: Manifest
    judge: Judge
    judged: tuple[Judged, ...]
    decision: Decision
    clock: str
    threads: int
    threads_asked: int | None
    machine: Machine
    versions: Mapping[str, str]
    card: Path

    @property
    def command(self) -> str:
        """One line for a shell that runs the choice."""
        case = self.decision.best.case
        words = ["nddr-infer", "--engine", str(case.path), "--backend", case.backend, "--precision", case.precision]
        if self.threads_asked is not None and case.backend != "tensorrt":
            words += ["--threads", str(self.threads_asked)]
        variables = [f"{name}={value}" for name, value in case.environment.items()]
        return shlex.join([*variables, *words, "--input", "INPUT", "--output", "OUTPUT"])

    @property
    def not_run(self) -> dict[str, str]:
        """What took no part, and why; files by their names."""
        folder = self.contenders.subject.path.parent
        beside = "" if folder == Path() else f"{folder}{os.sep}"
        return {name: reason.replace(beside, "") for name, reason in self.contenders.not_run.items()}

    def facts(self) -> list[str]:
        """The lines above the table: what was measured, on what, and what could not be."""
        model, evaluation = self.manifest, self.judge.evaluation
        height, width = model.size_hw
        truth = "with labels" if evaluation.labelled else "FP32's own results being the truth"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        time = "by the clock" if self.clock == "wall" else "by processor time"
        budgets = ", ".join(budget.text for budget in self.judge.budgets)
        return [
            f"{self.contenders.subject.path.name}: {model.network or 'network'}, "
            f"{' + '.join(task.name for task in model.tasks)}, {height}x{width}, batch {model.batch}",
            *([f"int8 form: {self.contenders.subject.int8.name}"] if self.contenders.subject.int8 else []),
            f"{self.machine.cpu}, {threads} a pass, {time}; {' '.join(self.machine.flags)}",
            f"judged on {evaluation.about}, {truth}, against FP32 in onnxruntime",
            f"budgets: {budgets}{', at the worse end of the 95 % interval, too' if self.judge.sure else ''}",
            *(f"not run: {name}: {reason}" for name, reason in self.not_run.items()),
        ]

    def conclusion(self) -> list[str]:
        """The lines below it."""
        case = self.decision.best.case
        lines = [f"chosen: {case.label} of {case.path.name}: {self.decision.why}"]
        if self.decision.rivals:
            names = ", ".join(rival.label for rival in self.decision.rivals)
            lines.append(
                f"        no slower in at least one round: {names}; a quieter machine or more --seconds-per-case tells "
                "better"
            )
        return [*lines, f"run it: {self.command}", f"written: {self.card} and {self.card.stem}.html"]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; files by their names."""
        evaluation, best = self.judge.evaluation, self.decision.best
        return {
            "format": "nddr-deploy-pick/1",
            "model": self.contenders.subject.path.name,
            "machine": self.machine.to_dict(),
            "versions": dict(self.versions),
            "threads": self.threads,
            "evaluation": {
                "source": evaluation.about,
                "samples": len(evaluation),
                "labelled": evaluation.labelled,
            },
            "clock": self.clock,
            "budgets": [budget.text for budget in self.judge.budgets],
            "sure": self.judge.sure,
            "cases": [_case(each, chosen=each is best) for each in self.judged],
            "not_run": self.not_run,
            "choice": {
                "file": best.case.path.name,
                "backend": best.case.backend,
                "precision": best.case.precision,
                "why": self.decision.why,
                "rivals": [rival.label for rival in self.decision.rivals],
            },
            "card": self.card.name,
        }


def show(report: PickReport) -> None:
    """Print it to the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    print("\n".join(report.facts()), end="\n\n")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("case", no_wrap=True)
    table.add_column(f"times faster\nthan {report.judged[0].case.label}", justify="right", no_wrap=True)
    table.add_column("ms a pass\np50 / p90", justify="right", no_wrap=True)
    for budget in report.judge.budgets:
        table.add_column(f"{budget.task}\n{budget.metric} {_number(budget)}", justify="right", no_wrap=True)
    table.add_column("")
    for each in report.judged:
        speed, times = each.speedup, each.passes
        missed = {(budget.task, budget.metric) for budget in each.missed}
        cells = [
            Text(_cell(each, budget), style="red" if (budget.task, budget.metric) in missed else "")
            for budget in report.judge.budgets
        ]
        verdict, style = _verdict(each, report.decision)
        table.add_row(
            each.case.label,
            f"{speed.median:.2f} ({speed.min:.2f}-{speed.max:.2f})",
            f"{1000 * times.p50:.2f} / {1000 * times.p90:.2f}",
            *cells,
            Text(verdict, style=style),
        )
    console = Console()
    console.width = max(console.width, 80 + 24 * len(report.judge.budgets))  # lines may break, figures may not
    console.print(table)
    print("\n" + "\n".join(report.conclusion()))


def missed_text(judged: Sequence[Judged], budgets: Sequence[Budget]) -> str:
    """Why nothing was chosen, in two sentences."""
    losses = []
    for each in judged:
        told = ", ".join(f"{budget.text} became {loss_text(_change(each, budget))}" for budget in each.missed)
        losses.append(f"{each.case.label} ({told})")
    return (
        f"No case keeps the {'budgets' if len(budgets) > 1 else 'budget'}, so nothing was chosen or written: "
        f"{'; '.join(losses)}. Allow more, or let FP32 take part."
    )


def _verdict(each: Judged, decision: Decision) -> tuple[str, str]:
    if each is decision.best:
        return "chosen", "bold green"
    if each.missed:
        return f"misses {', '.join(f'{budget.task}.{budget.metric}' for budget in each.missed)}", "red"
    return "keeps all", ""


def _change(each: Judged, budget: Budget) -> Change:
    return next(change for change in each.changes if (change.task, change.metric) == (budget.task, budget.metric))


def loss_text(change: Change) -> str:
    """`−0.21 points`"""
    return change_text(_finite(change.change), change.form.unit)


def _cell(each: Judged, budget: Budget) -> str:
    """The change; of FP32 itself, its value."""
    change = _change(each, budget)
    if each.reference:
        return value_text(_finite(change.before), change.form.unit)
    return loss_text(change)


def _number(budget: Budget) -> str:
    return budget.text.partition("=")[2].strip()


def _case(each: Judged, *, chosen: bool) -> dict[str, Any]:
    times = each.passes
    return {
        "case": each.case.label,
        "file": each.case.path.name,
        "backend": each.case.backend,
        "precision": each.case.precision,
        "speedup": asdict(each.speedup),
        "pass_s": asdict(times),
        "heads": [
            {
                "task": change.task,
                "metric": change.metric,
                "unit": change.form.unit,
                **{name: _finite(getattr(change, name)) for name in ("before", "after", "low", "high")},
            }
            for change in each.changes
        ],
        "missed": [budget.text for budget in each.missed],
        "budgets_used": _finite(each.used),
        "chosen": chosen,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
