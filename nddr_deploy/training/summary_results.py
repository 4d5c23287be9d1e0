"""The sections of summary.html on what came out: metrics, curves, what tasks share, validation samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nddr_deploy.evaluate.comparison import Comparison
from nddr_deploy.page.elements import section
from nddr_deploy.page.figures import axis_text, value_text
from nddr_deploy.page.lines import Line, line_chart
from nddr_deploy.page.markup import Html, table, tag, together
from nddr_deploy.page.panels import beside, legend, panel
from nddr_deploy.tasks.base import Task
from nddr_deploy.training.history import History

FEW = 30  # points of a curve, each of which is marked


def metrics(history: History, tasks: Sequence[Task], best_step: int, judged_on: str) -> Html | None:
    """Every metric of every head: the last, that of best.pt, and the best.

    Args:
        best_step: after which best.pt was written.
        judged_on: which samples, as in "all 100 samples of the split val".
    """
    rows: list[tuple[str, ...]] = []
    last = 0.0
    for task in tasks:
        for metric in task.metrics:
            points = history.validations(task, metric)
            if points:
                last, value = points[-1]
                step, best = history.best(task, metric) or (last, math.nan)
                name = tag("strong", metric) if metric == task.headline else metric
                kept = dict(points).get(best_step, math.nan)
                values = [metric_text(task, metric, each) for each in (value, kept, best)]
                rows.append((task.name, name, *values, f"{step:g}"))
    if not rows:
        return None
    head = ("Head", "Metric", f"Last (step {last:g})", f"best.pt (step {best_step})", "Best of all", "at step")
    about = f"On {judged_on}. Bold: the headline metric."
    return section("Metrics", about, table("Metrics of every head", head, rows, numbers=(2, 3, 4, 5)))


def losses(history: History, tasks: Sequence[Task], *, weighted: bool) -> Html | None:
    """Curves of the losses, the rate and, where they move, the factors of the losses.

    Args:
        weighted: whether factors move.
    """
    own = [
        line_chart(f"Loss of {task.name}", [Line("loss", history.curve(f"loss/{task.name}"), place + 1)])
        for place, task in enumerate(tasks)
    ]
    factors = [Line(task.name, history.curve(f"factor/{task.name}"), place + 1) for place, task in enumerate(tasks)]
    charts = [
        line_chart("Weighted sum of losses", [Line("loss", history.curve("loss"))]) if len(tasks) > 1 else None,
        *own,
        line_chart("Factors of the losses", factors) if weighted else None,
        line_chart("Learning rate", [Line("rate", history.curve("lr"), 7)]),
    ]
    shown = _side_by_side(charts)
    return section("Losses", "Means over each log interval, by step.", shown) if shown else None


def validations(history: History, tasks: Sequence[Task]) -> Html | None:
    """Curves of the headline metrics, and the others where they are asked for."""
    found = [(task, place + 1, metric) for place, task in enumerate(tasks) for metric in task.metrics]
    charts = [
        [_metric_chart(history, *each) for each in found if (each[2] == each[0].headline) == headline]
        for headline in (True, False)
    ]
    shown, more = (_side_by_side(each) for each in charts)
    if not shown:
        return None
    others = tag("details", tag("summary", "The other metrics"), more) if more else None
    return section("Validation", "By step.", shown, others)


def coupling(history: History) -> Html | None:
    """What each task takes from the others, over time and at last."""
    shares = history.shares()
    if not shares:
        return None
    layers, tasks, streams = (list(dict.fromkeys(names)) for names in zip(*shares, strict=True))
    taken = {  # (layer, task) -> what does not come from the task's own stream
        place: [(step, 1 - share) for step, share in shares.get((*place, place[1]), [])]
        for place in dict.fromkeys((layer, task) for layer, task, _ in shares)
    }
    largest = max((share for points in taken.values() for _, share in points if math.isfinite(share)), default=0.0)
    charts = [
        line_chart(
            f"{task} takes from others",
            [Line(layer, taken.get((layer, task), []), number) for number, layer in enumerate(layers)],
            value=lambda share: axis_text(share, "share"),
            bounds=(0.0, min(1.0, 1.1 * largest) or 1.0),
        )
        for task in tasks
    ]
    rows = [
        (layer, task, *(_last_share(shares.get((layer, task, stream), [])) for stream in streams))
        for layer in layers
        for task in tasks
        if (layer, task) in taken
    ]
    about = (
        "Per fusion layer, the share of what a task's stream goes on with that comes from other streams: norms of the "
        "weights, each times the scale of the values that it meets on the samples below; nddr-inspect says the same of "
        "the exported model."
    )
    head = ("Layer", "Task", *(f"from {stream}" for stream in streams))
    numbers = tuple(range(2, 2 + len(streams)))
    last = table(
        "Shares of every stream", head, rows, numbers=numbers, caption="After the last logged step", tall=len(rows) > 18
    )
    return section("What tasks share", about, _side_by_side(charts), last)


def samples(comparisons: Sequence[Comparison], tasks: Sequence[Task]) -> Html | None:
    """Prediction beside truth."""
    if not comparisons:
        return None
    parts: list[Html] = []
    for task in tasks:
        if task.head == "dense" and task.legend():
            parts.append(together((tag("strong", task.name), legend(task.legend()))))
    for each in comparisons:
        said = f": {'; '.join(each.words)}" if each.words else ""
        views = [
            panel(view.picture, view.title, f"{each.name}, {view.title}", smooth=view.smooth) for view in each.views
        ]
        caption = tag("figcaption", tag("strong", each.name), said)
        grid = "panels pairwise" if len(views) > 1 else "panels"
        parts.append(tag("figure", caption, beside(views, class_=grid), class_="worst"))
    return section("Validation samples", "What the heads make of them, beside the truth.", *parts)


def metric_text(task: Task, metric: str, value: float) -> str:
    """`75.34 %`; a dash for NaN."""
    return value_text(None if math.isnan(value) else value, task.metrics[metric].unit)


def _metric_chart(history: History, task: Task, colour: int, metric: str) -> Html | None:
    points = history.validations(task, metric)
    return line_chart(
        f"{task.name}: {metric}",
        [Line(metric, points, colour)],
        value=lambda value: axis_text(value, task.metrics[metric].unit),
        dots=len(points) <= FEW,
    )


def _last_share(points: Sequence[tuple[float, float]]) -> str:
    return f"{100 * points[-1][1]:.1f} %" if points and math.isfinite(points[-1][1]) else "–"


def _side_by_side(charts: Sequence[Html | None]) -> Html | None:
    return tag("div", *charts, class_="charts") if any(charts) else None
