"""The table of a plan: our numbers over seeds beside the paper's, as Markdown, JSON and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nddr_deploy.experiments.columns import column_name
from nddr_deploy.experiments.plan import Plan, Run
from nddr_deploy.experiments.results import Result, Results
from nddr_deploy.experiments.spec import Row, TableSpec
from nddr_deploy.files import finished_file
from nddr_deploy.tasks.base import MetricForm


@dataclass(frozen=True)
class Cell:
    """One metric of one row.

    Attributes:
        values: one per finished seed, shares in per cent.
        paper: the paper's number, or None.
    """

    values: tuple[float, ...]
    paper: float | None

    @property
    def mean(self) -> float:
        return float(np.mean(self.values)) if self.values else float("nan")

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds (n - 1); NaN for fewer than two."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else float("nan")


@dataclass(frozen=True)
class TableReport:
    """What was found for one table.

    Attributes:
        spec: the table.
        forms: per column, its unit and which way is better.
        cells: row name -> per column.
        failed: row name -> number of seeds whose training failed.
        seeds: that are finished in every row.
        results: all that went in.
    """

    spec: TableSpec
    forms: tuple[MetricForm, ...]
    cells: Mapping[str, tuple[Cell, ...]]
    failed: Mapping[str, int]
    seeds: tuple[int, ...]
    results: tuple[Result, ...]

    def best(self, column: int) -> str | None:
        """The row with the best mean of a column."""
        means = {name: cells[column].mean for name, cells in self.cells.items() if cells[column].values}
        choose = max if self.forms[column].higher_is_better else min
        return choose(means, key=lambda name: means[name]) if means else None

    def to_dict(self) -> dict[str, Any]:
        columns = [f"{task}.{metric}" for task, metric in self.spec.columns]
        return {
            "table": self.spec.name,
            "title": self.spec.title,
            "scale": self.spec.scale,
            "seeds": list(self.seeds),
            "rows": {
                name: {
                    column: {"values": list(cell.values), "mean": _finite(cell.mean), "paper": cell.paper}
                    for column, cell in zip(columns, cells, strict=True)
                }
                for name, cells in self.cells.items()
            },
            "failed": dict(self.failed),
            "best": {column: self.best(number) for number, column in enumerate(columns)},
            "runs": [result.digest for result in self.results],
            "seconds": round(sum(result.seconds for result in self.results), 1),
        }


def make_report(plan: Plan, results: Results, forms: Mapping[tuple[str, str], MetricForm]) -> TableReport:
    """The table from the results that are there.

    Args:
        forms: (task, metric) -> its form.
    """
    spec = plan.spec
    seeds = sorted({seed for _, seed in plan.cells})
    used: dict[str, Result] = {}
    cells, failed, complete = {}, {}, set(seeds)
    for row in spec.rows:
        per_seed = {seed: _found(plan.cells[row.name, seed], results) for seed in seeds}
        used.update({result.digest: result for found in per_seed.values() for result in found or ()})
        complete -= {seed for seed, found in per_seed.items() if found is None}
        finished = [found for found in per_seed.values() if found is not None]
        broken = [found for found in finished if any(result.failed for result in found)]
        failed[row.name] = len(broken)
        metrics = [_together(found) for found in finished if found not in broken]
        cells[row.name] = tuple(
            Cell(tuple(found[task][metric] * _factor(forms[task, metric]) for found in metrics), _paper(row, number))
            for number, (task, metric) in enumerate(spec.columns)
        )
    ordered = tuple(forms[column] for column in spec.columns)
    return TableReport(spec, ordered, cells, failed, tuple(sorted(complete)), tuple(used.values()))


def markdown(report: TableReport) -> str:
    """The table for people: per cell our mean and standard deviation over seeds, the paper's number below."""
    spec = report.spec
    best = [report.best(number) for number in range(len(spec.columns))]
    lines = [f"# {spec.title}", "", _what(report), ""]
    heads = [column_name(column, form) for column, form in zip(spec.columns, report.forms, strict=True)]
    lines += ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for row in spec.rows:
        texts = [_cell(cell, best[number] == row.name) for number, cell in enumerate(report.cells[row.name])]
        lines.append(f"| {row.name} | " + " | ".join(texts) + " |")
        if row.paper:
            lines.append("| *the paper* | " + " | ".join(f"*{value:g}*" for value in row.paper) + " |")
    lines += [
        "",
        "Bold: the best mean of a column. Spread: standard deviation over seeds. Arrows: which way is better.",
    ]
    remarks = [f"{row.name}: {row.about}" for row in spec.rows if row.about]
    broken = {name: count for name, count in report.failed.items() if count}
    remarks += [f"{name}: {count} of the trainings failed (a loss became NaN)." for name, count in broken.items()]
    return "\n".join([*lines, *([""] if remarks else []), *(f"- {remark}" for remark in remarks)]) + "\n"


def write_report(report: TableReport, folder: Path) -> list[Path]:
    """NAME.md, NAME.json and NAME.png in a folder."""
    from nddr_deploy.experiments.plot import draw

    stem = f"{report.spec.name}-{report.spec.scale}"
    texts = {".md": markdown(report), ".json": json.dumps(report.to_dict(), indent=1) + "\n"}
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / (stem + suffix))
        with finished_file(paths[-1]) as new:
            new.write_text(text, encoding="utf-8")
    paths.append(folder / f"{stem}.png")
    draw(report, paths[-1])
    return paths


def _found(runs: Sequence[Run], results: Results) -> list[Result] | None:
    found = [results.find(run) for run in runs]
    return None if None in found else [result for result in found if result is not None]


def _together(found: Sequence[Result]) -> dict[str, Mapping[str, float]]:
    return {task: metrics for result in found for task, metrics in result.metrics.items()}


def _what(report: TableReport) -> str:
    """How the numbers came about, in one paragraph."""
    results = report.results
    if not results:
        return "Nothing of it has been trained yet."
    machines = sorted({f"{result.machine['device']} ({result.machine['cpu']})" for result in results})
    seconds = sum(result.seconds for result in results)
    judged = report.spec.judged_on
    count = judged.get("options", {}).get("count")
    seeds = ", ".join(map(str, report.seeds)) or "none complete"
    return (
        f"Scale `{report.spec.scale}`, {len(report.seeds)} {'seed' if len(report.seeds) == 1 else 'seeds'} ({seeds}); "
        f"{len(results)} networks trained in {seconds / 60:.0f} minutes on {', '.join(machines)}; scored on "
        f"{f'{count} samples of ' if count else ''}the {judged['split']} split, which no training saw."
    )


def _cell(cell: Cell, best: bool) -> str:
    if not cell.values:
        return "–"
    spread = "" if np.isnan(cell.deviation) else f" ± {cell.deviation:.2f}"
    return f"**{cell.mean:.2f}**{spread}" if best else f"{cell.mean:.2f}{spread}"


def _factor(form: MetricForm) -> float:
    return 100.0 if form.unit == "share" else 1.0


def _paper(row: Row, number: int) -> float | None:
    return row.paper[number] if row.paper else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
