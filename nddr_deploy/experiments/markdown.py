"""A table as Markdown: our numbers over seeds, the paper's below, and what may be concluded from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nddr_deploy.experiments.columns import column_name
from nddr_deploy.experiments.compare import Difference

if TYPE_CHECKING:
    from nddr_deploy.experiments.report import Cell, TableReport


def markdown(report: TableReport) -> str:
    """The table for people: per cell our mean and standard deviation over seeds, the paper's number below."""
    spec = report.spec
    best = [report.best(number) for number in range(len(spec.columns))]
    alike = [report.like_best(number) for number in range(len(spec.columns))]
    lines = [f"# {spec.title}", "", _what(report), ""]
    heads = [column_name(column, form) for column, form in zip(spec.columns, report.forms, strict=True)]
    lines += ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for row in spec.rows:
        texts = [
            _cell(cell, best[number] == row.name, row.name in alike[number])
            for number, cell in enumerate(report.cells[row.name])
        ]
        lines.append(f"| {_row_name(report, row.name)} | " + " | ".join(texts) + " |")
        if row.paper:
            lines.append("| *the paper* | " + " | ".join(f"*{value:g}*" for value in row.paper) + " |")
    lines += ["", _legend(report), *_gains(report, heads)]
    remarks = [f"{row.name}: {row.about}" for row in spec.rows if row.about]
    broken = {name: count for name, count in report.failed.items() if count}
    remarks += [f"{name}: {count} of the trainings failed (a loss became NaN)." for name, count in broken.items()]
    return "\n".join([*lines, *([""] if remarks else []), *(f"- {remark}" for remark in remarks)]) + "\n"


def _what(report: TableReport) -> str:
    """How the numbers came about, in one paragraph."""
    results = report.results
    if not results:
        return "Nothing of it has been trained yet."
    machines = sorted({f"{result.machine['device']} ({result.machine['cpu']})" for result in results})
    seconds = sum(result.seconds for result in results)
    judged = report.spec.judged_on
    count = judged.get("options", {}).get("count")
    seeds = f"{_seeds(len(report.seeds))} ({', '.join(map(str, report.seeds))})" if report.seeds else "no seed"
    if report.seeds != report.asked:
        seeds = f"unfinished: {seeds} of {len(report.asked)} complete"
    return (
        f"Scale `{report.spec.scale}`, {seeds}; "
        f"{len(results)} networks trained in {seconds / 60:.0f} minutes on {', '.join(machines)}; scored on "
        f"{f'{count} samples of ' if count else ''}the {judged['split']} split, which no training saw."
    )


def _legend(report: TableReport) -> str:
    if not report.comparable:
        best = "No best is marked: not every row has the same seeds yet."
    elif len(report.seeds) == 1:
        best = "Bold: the best of a column. One seed says nothing about chance: small differences may be just that."
    else:
        best = (
            "Bold: the best mean of a column; ≈: what cannot be told from it (the 95 % interval of the difference, "
            "seed by seed, holds 0). ±: standard deviation over seeds."
        )
    return f"{best} Arrows: which way is better."


def _gains(report: TableReport, heads: Sequence[str]) -> list[str]:
    """Two more tables: rows against the single-task one, and against single-task networks of the same steps."""
    reference = report.reference
    if reference is None:
        return []
    peers = [(name, peer) for name in report.cells if (peer := report.peer(name)) is not None and peer != reference]
    return [
        *_gain_table(
            report,
            heads,
            f"Gain over *{reference}*, seed by seed; positive is better. \\*: beyond chance (the 95 % interval of the "
            "mean leaves 0 out, paired t-test; a table makes many such tests). A single seed cannot tell.",
            {(name, reference): "" for name in report.cells if name != reference},
        ),
        *_gain_table(
            report,
            heads,
            "The same over single-task networks that were trained for the same steps:",
            {(name, peer): f", over *{peer}*" for name, peer in peers},
        ),
    ]


def _gain_table(
    report: TableReport, heads: Sequence[str], title: str, pairs: Mapping[tuple[str, str], str]
) -> list[str]:
    """Args: pairs: a row and the one that it is measured against -> what is said after its name."""
    lines = []
    for (name, other), after in pairs.items():
        gains = [report.gain(name, other, number) for number in range(len(heads))]
        if gains[0].values:
            lines.append(f"| {_row_name(report, name)}{after} | " + " | ".join(_gain(gain) for gain in gains) + " |")
    columns = " | ".join(head.rstrip(" ↑↓") for head in heads)
    return ["", title, "", f"| | {columns} |", "|---|" + "---|" * len(heads), *lines] if lines else []


def _gain(gain: Difference) -> str:
    spread = "" if np.isnan(gain.deviation) else f" ± {gain.deviation:.2f}"
    return f"{gain.mean:+.2f}{spread}" + (" \\*" if gain.beyond_chance else "")


def _row_name(report: TableReport, name: str) -> str:
    """With the number of seeds where some are not finished."""
    finished = report.finished(name)
    return name if finished == len(report.asked) else f"{name} ({finished} of {_seeds(len(report.asked))})"


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _cell(cell: Cell, best: bool, alike: bool) -> str:
    if not cell.values:
        return "–"
    spread = "" if np.isnan(cell.deviation) else f" ± {cell.deviation:.2f}"
    mean = f"**{cell.mean:.2f}**" if best else f"{cell.mean:.2f}"
    return f"{mean}{spread}{' ≈' if alike else ''}"
