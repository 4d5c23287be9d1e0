"""A table as a picture: every seed a dot, the mean a bar, and the paper's numbers beside them on their own axis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nddr_deploy.experiments.columns import column_name
from nddr_deploy.files import finished_file

if TYPE_CHECKING:
    from nddr_deploy.experiments.report import TableReport

OURS, PAPER = "#1f6f8b", "#b35c1e"
SHOWN = 3  # columns of a task that are drawn: more would be too small to read


def draw(report: TableReport, path: Path) -> None:
    """Write the picture: one pair of panels per metric, ours left, the paper's right (where it has numbers)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = _shown(report)
    with_paper = any(row.paper for row in report.spec.rows)
    sides = 2 if with_paper else 1
    names = [row.name for row in report.spec.rows]
    counts = [report.finished(name) for name in names]
    labels = [
        name if count == len(report.asked) else f"{name}\n({count} of {len(report.asked)} seeds)"
        for name, count in zip(names, counts, strict=True)
    ]
    figure = Figure(figsize=(4.2 * sides + 1.2, (0.32 * len(names) + 0.9) * len(columns) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(columns), sides, squeeze=False, sharey=True)
    for line, column in zip(axes, columns, strict=True):
        _ours(line[0], report, column, names)
        if with_paper:
            _paper(line[1], report, column, names)
        line[0].set_yticks(np.arange(len(names)), labels, fontsize=8)
    many = "1 seed" if len(report.asked) == 1 else f"{len(report.asked)} seeds"
    figure.suptitle(f"{report.spec.title} ({report.spec.scale}, {many})", fontsize=10)
    with finished_file(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def _shown(report: TableReport) -> list[int]:
    """The first column of each task, then more while there is room."""
    tasks = list(dict.fromkeys(task for task, _ in report.spec.columns))
    first = [next(i for i, (task, _) in enumerate(report.spec.columns) if task == name) for name in tasks]
    return sorted(first)[:SHOWN]


def _ours(axis: Any, report: TableReport, column: int, names: list[str]) -> None:
    form = report.forms[column]
    for height, name in enumerate(names):
        cell = report.cells[name][column]
        if cell.values:
            axis.plot(cell.values, [height] * len(cell.values), "o", color=OURS, markersize=5, alpha=0.55, mew=0)
            axis.plot([cell.mean] * 2, [height - 0.3, height + 0.3], color=OURS, linewidth=2)
    _dress(axis, f"ours: {column_name(report.spec.columns[column], form)}", names)


def _paper(axis: Any, report: TableReport, column: int, names: list[str]) -> None:
    for height, name in enumerate(names):
        value = report.cells[name][column].paper
        if value is not None:
            axis.plot([value], [height], "D", color=PAPER, markersize=6)
    _dress(axis, f"the paper: {column_name(report.spec.columns[column], report.forms[column])}", names)


def _dress(axis: Any, title: str, names: list[str]) -> None:
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_yticks(np.arange(len(names)), names, fontsize=8)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", alpha=0.3)
    axis.margins(x=0.12)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
