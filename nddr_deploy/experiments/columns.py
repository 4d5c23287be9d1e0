"""What the columns of a table are called."""

from __future__ import annotations

from nddr_deploy.tasks.base import MetricForm

SHORT = {"mean_angle": "mean angle", "median_angle": "median angle"}
UNITS = {"share": "%", "degrees": "°", "metres": "m", "years": "years", "ratio": ""}


def column_name(column: tuple[str, str], form: MetricForm) -> str:
    """`normals mean angle (°) ↓`: task, metric, unit, and which way is better."""
    task, metric = column
    if metric.startswith("within_"):
        words = f"within {metric.removeprefix('within_')}°"
    else:
        words = SHORT.get(metric, metric)
    unit = UNITS[form.unit]
    return f"{task} {words}{f' ({unit})' if unit else ''} {'↑' if form.higher_is_better else '↓'}"
