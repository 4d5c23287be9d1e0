"""The table of a plan: our numbers over seeds beside the paper's, as Markdown, JSON and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nddr_deploy.experiments.compare import Difference, difference
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
        seeds: of the values.
    """

    values: tuple[float, ...]
    paper: float | None
    seeds: tuple[int, ...] = ()

    @property
    def of_seed(self) -> dict[int, float]:
        return dict(zip(self.seeds, self.values, strict=True))

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
        asked: the seeds asked for.
        results: all that went in, those of the networks that rows start from too.
    """

    spec: TableSpec
    forms: tuple[MetricForm, ...]
    cells: Mapping[str, tuple[Cell, ...]]
    failed: Mapping[str, int]
    seeds: tuple[int, ...]
    asked: tuple[int, ...]
    results: tuple[Result, ...]

    @property
    def comparable(self) -> bool:
        """Whether every row has the same seeds, so that their means may be compared; failed trainings count as had."""
        return bool(self.seeds) and all(self.finished(name) == len(self.seeds) for name in self.cells)

    def finished(self, name: str) -> int:
        """How many seeds of a row are finished, failed ones too."""
        return len(self.cells[name][0].values) + self.failed[name]

    def best(self, column: int) -> str | None:
        """The row with the best mean of a column, of rows without a failed training; None in an unfinished table."""
        means = {name: cells[column].mean for name, cells in self.cells.items() if not self.failed[name]}
        choose = max if self.forms[column].higher_is_better else min
        return choose(means, key=lambda name: means[name]) if means and self.comparable else None

    def like_best(self, column: int) -> tuple[str, ...]:
        """The rows that cannot be told from the best one over several seeds."""
        best = self.best(column)
        if best is None:
            return ()
        others = [name for name in self.cells if name != best and not self.failed[name]]
        return tuple(name for name in others if self.gain(name, best, column).beyond_chance is False)

    def gain(self, name: str, other: str, column: int) -> Difference:
        """How much better a row is than another one, seed by seed: positive is better."""
        change = difference(self.cells[name][column].of_seed, self.cells[other][column].of_seed)
        return change if self.forms[column].higher_is_better else Difference(tuple(-value for value in change.values))

    @property
    def reference(self) -> str | None:
        """The row that the others are measured against: the first one with a network per task."""
        return next((row.name for row in self.spec.rows if row.each), None)

    def peer(self, name: str) -> str | None:
        """The row of a network per task that were trained for the same steps as those of another row, if any."""
        rows = {row.name: row for row in self.spec.rows}
        if rows[name].each:
            return None
        return next((row.name for row in rows.values() if row.each and row.stage == rows[name].stage), None)

    def to_dict(self) -> dict[str, Any]:
        columns = [f"{task}.{metric}" for task, metric in self.spec.columns]
        return {
            "table": self.spec.name,
            "title": self.spec.title,
            "scale": self.spec.scale,
            "seeds": list(self.seeds),
            "asked": list(self.asked),
            "rows": {
                name: {
                    column: {
                        "values": list(cell.values),
                        "seeds": list(cell.seeds),
                        "mean": _finite(cell.mean),
                        "deviation": _finite(cell.deviation),
                        "paper": cell.paper,
                    }
                    for column, cell in zip(columns, cells, strict=True)
                }
                for name, cells in self.cells.items()
            },
            "failed": dict(self.failed),
            "best": {column: self.best(number) for number, column in enumerate(columns)},
            "like_best": {column: list(self.like_best(number)) for number, column in enumerate(columns)},
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
    found_results = [results.find(run) for run in plan.runs()]  # what rows start from took its time, too
    used = {result.digest: result for result in found_results if result is not None}
    cells, failed, complete = {}, {}, set(seeds)
    for row in spec.rows:
        per_seed = {seed: _found(plan.cells[row.name, seed], results) for seed in seeds}
        complete -= {seed for seed, found in per_seed.items() if found is None}
        finished = {seed: found for seed, found in per_seed.items() if found is not None}
        metrics = {
            seed: _together(found) for seed, found in finished.items() if not any(result.failed for result in found)
        }
        failed[row.name] = len(finished) - len(metrics)
        cells[row.name] = tuple(
            Cell(
                tuple(found[task][metric] * _factor(forms[task, metric]) for found in metrics.values()),
                _paper(row, number),
                tuple(metrics),
            )
            for number, (task, metric) in enumerate(spec.columns)
        )
    ordered = tuple(forms[column] for column in spec.columns)
    return TableReport(spec, ordered, cells, failed, tuple(sorted(complete)), tuple(seeds), tuple(used.values()))


def write_report(report: TableReport, folder: Path) -> list[Path]:
    """NAME.md, NAME.json and NAME.png in a folder."""
    from nddr_deploy.experiments.markdown import markdown
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


def _factor(form: MetricForm) -> float:
    return 100.0 if form.unit == "share" else 1.0


def _paper(row: Row, number: int) -> float | None:
    return row.paper[number] if row.paper else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
