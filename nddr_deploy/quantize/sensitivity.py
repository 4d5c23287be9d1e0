"""What each layer's integers cost each task: measured one layer at a time, and with all the others."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from nddr_deploy.evaluate.change import change_text
from nddr_deploy.files import finished_file
from nddr_deploy.progress import progress_bar
from nddr_deploy.quantize.trials import Trials
from nddr_deploy.tasks.base import Array, MetricForm

UNITS = {"share": "points", "degrees": "degrees", "metres": "m", "years": "years"}


@dataclass(frozen=True)
class Column:
    """One metric of one task; `headline` is whether it is the task's main one."""

    task: str
    metric: str
    form: MetricForm
    headline: bool

    def __str__(self) -> str:
        return f"{self.task}.{self.metric}"


@dataclass(frozen=True)
class Sensitivity:
    """Losses of every metric, each in its own unit; below 0 where it became better.

    Attributes:
        layers: names of the nodes, in the graph's order.
        columns: the metrics.
        alone: (layers, columns): only this layer is quantised.
        without: (layers, columns): every layer is, but this one.
        whole: (columns,): every layer is.
        samples: that it was measured on.
    """

    layers: tuple[str, ...]
    columns: tuple[Column, ...]
    alone: Array
    without: Array
    whole: Array
    samples: int

    def gains(self) -> Array:
        """(layers, columns): how much of the loss a layer explains: the mean of its own, and of what its return
        to float gives back."""
        gained: Array = (self.alone + (self.whole - self.without)) / 2
        return gained

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """One row a layer; for each metric the loss with that layer alone, and with all others."""
        with finished_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            names = [f"{column} {how}" for how in ("alone", "all but this") for column in self.columns]
            writer.writerow(["layer", *names])
            for layer, alone, without in zip(self.layers, self.alone, self.without, strict=True):
                writer.writerow([layer, *(f"{value:.6g}" for value in (*alone, *without))])
            writer.writerow(["every layer", *["" for _ in self.columns], *(f"{value:.6g}" for value in self.whole)])

    def draw(self, path: str | os.PathLike[str]) -> None:
        """The headline metric of each task as a heat map; shares in percentage points."""
        from nddr_deploy.quantize.heatmap import Panel, draw_panels

        chosen = _headlines(self.columns)
        factors = np.array([100.0 if self.columns[place].form.unit == "share" else 1.0 for place in chosen])
        names = [_name(self.columns[place]) for place in chosen]
        panels = [
            Panel(self.alone[:, chosen] * factors, names, "this layer alone", "column"),
            Panel((self.whole - self.without)[:, chosen] * factors, names, "given back", "column"),
        ]
        with finished_file(path) as temporary:
            draw_panels(
                panels,
                self.layers,
                "What integers cost",
                temporary,
                note=f"losses on {self.samples} samples: quantised alone; and less of the whole loss with it in float",
            )

    def text(self, count: int = 5) -> str:
        """For each task the layers that its headline metric owes most of its loss to."""
        lines = []
        gains = self.gains()
        for place in _headlines(self.columns):
            column = self.columns[place]
            whole = _loss_text(float(self.whole[place]), column.form)
            lines.append(f"{column}: {whole} with every layer quantised; most by")
            for row in np.argsort(-gains[:, place], kind="stable")[:count]:
                alone, back = self.alone[row, place], self.whole[place] - self.without[row, place]
                lines.append(
                    f"  {self.layers[row]}: {_loss_text(float(alone), column.form)} alone, "
                    f"{_loss_text(float(-back), column.form)} given back"
                )
        return "\n".join(lines)


def measure_sensitivity(trials: Trials, *, progress: bool = False) -> Sensitivity:
    """Judge every layer alone, and everything but each layer: twice as many trials as there are layers.

    Args:
        trials: what is judged, and remembered: a second call costs nothing.
        progress: say on stderr how long it will take, and show a progress bar there, if that is a terminal.
    """
    layers = trials.layers
    everything = frozenset(layers)
    alone, without = [], []
    whole = _losses(trials, frozenset())
    with progress_bar("sensitivity", 2 * len(layers), shown=progress) as advance:
        for place, layer in enumerate(layers):
            start, judged = perf_counter(), trials.judged
            alone.append(_losses(trials, everything - {layer}))
            without.append(_losses(trials, frozenset({layer})))
            if progress and place == 0 and trials.judged == judged + 2:  # neither was remembered
                left_s = (perf_counter() - start) * (len(layers) - 1)
                print(_estimate(2 * len(layers), len(trials.evaluation), left_s), file=sys.stderr)
            advance(2)
    headlines = {(task.name, task.headline) for task in trials.evaluation.tasks}
    columns = tuple(
        Column(change.task, change.metric, change.form, (change.task, change.metric) in headlines)
        for change in trials.changes()
    )
    shape = (len(layers), len(columns))
    return Sensitivity(
        layers,
        columns,
        np.array(alone).reshape(shape),
        np.array(without).reshape(shape),
        np.array(whole),
        len(trials.evaluation),
    )


def _losses(trials: Trials, keep: frozenset[str]) -> list[float]:
    return [change.loss for change in trials.changes(keep)]


def _estimate(trials: int, samples: int, left_s: float) -> str:
    """How long it will take, for people."""
    length = f"{left_s:.0f} s" if left_s < 100 else f"{left_s / 60:.0f} min"
    return (
        f"sensitivity: {trials} trials on {samples} samples take about {length}; "
        "each is remembered, so a run that is stopped goes on there"
    )


def _headlines(columns: Sequence[Column]) -> list[int]:
    return [place for place, column in enumerate(columns) if column.headline]


def _name(column: Column) -> str:
    return f"{column} ({UNITS[column.form.unit]})" if column.form.unit in UNITS else str(column)


def _loss_text(loss: float, form: MetricForm) -> str:
    return change_text(-loss if form.higher_is_better else loss, form)
