"""The report as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nddr_deploy.benchmark.report import BenchmarkReport, Row
from nddr_deploy.benchmark.timing import Spread

COLOURS = {"fp32": "#4c78a8", "bf16": "#f58518", "fp16": "#54a24b", "int8": "#b279a2", "int8+bf16": "#e45756"}
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # keeps the line at 1 out of the texts
DOTS_PER_INCH = 150
# title, which speed-up, what is written beside the bar
Section = tuple[str, Callable[[Row], Spread | None], Callable[[Row], str]]


def draw(report: BenchmarkReport, path: Path) -> None:
    """Horizontal bars of the speed-up over the first case, with the range over rounds, one panel per section.

    Args:
        report: of one run.
        path: a picture file whose format matplotlib writes.
    """
    sections: list[Section] = []
    if any(row.one_thread for row in report.rows):
        sections.append(
            (
                "engine, one thread\n(processor time)",
                lambda row: row.one_thread.speedup if row.one_thread else None,
                _one_thread_text,
            )
        )
    if any(row.gpu for row in report.rows):
        sections.append(("GPU\n(its own work)", lambda row: row.gpu.speedup if row.gpu else None, _gpu_text))
    sections.append(
        (f"engine, all cores ({report.threads})\n(by the clock)", lambda row: row.all_cores.speedup, _clock_text)
    )
    if any(row.end_to_end for row in report.rows):
        sections.append(
            (
                f"end to end on {report.input}\n(all cores)",
                lambda row: row.end_to_end.speedup if row.end_to_end else None,
                _frames_text,
            )
        )
    height = 1.6 + 0.55 * len(report.rows)
    figure = Figure(figsize=(1.8 + 4.2 * len(sections), height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(sections), sharey=True, squeeze=False)[0]
    panels[0].invert_yaxis()  # the first case on top; the axis is shared
    for panel, (title, speedup, text) in zip(panels, sections, strict=True):
        first = _bars(panel, report.rows, speedup, text)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel(f"times faster than {first}", fontsize=9)
    model = report.model
    size = "x".join(map(str, model["size_hw"]))
    work = f", {model['flops'] / 1e9:.0f} GFLOP" if model["flops"] else ""
    figure.suptitle(f"{model['network'] or model['file']}, {size}{work}", fontsize=11)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _bars(
    panel: Axes, rows: tuple[Row, ...], speedup: Callable[[Row], Spread | None], text: Callable[[Row], str]
) -> str:
    """A bar for every row that has such a figure; returns the first one's label, which the others are compared with."""
    drawn = [(place, row, spread) for place, row in enumerate(rows) if (spread := speedup(row))]
    places = [place for place, _, _ in drawn]
    spreads = [spread for _, _, spread in drawn]
    widths = [spread.median for spread in spreads]
    reach = [[spread.median - spread.min for spread in spreads], [spread.max - spread.median for spread in spreads]]
    panel.barh(places, widths, xerr=reach, color=[COLOURS[row.precision] for _, row, _ in drawn], height=0.6, capsize=3)
    widest = max(spread.max for spread in spreads)
    for place, row, spread in drawn:
        panel.text(
            spread.max + 0.02 * widest,
            place,
            f"{spread.median:.2f}×  {text(row)}",
            va="center",
            fontsize=8,
            bbox=BEHIND,
        )
    panel.axvline(1, color="grey", linewidth=0.8, linestyle=":")
    panel.set_xlim(0, 1.8 * widest)  # room for the texts
    panel.set_yticks(range(len(rows)), [row.label for row in rows])
    panel.spines[["top", "right"]].set_visible(False)
    return drawn[0][1].label


def _one_thread_text(row: Row) -> str:
    one = row.one_thread
    return "" if one is None else f"{1000 * one.cpu_s.p50:.4g} ms" + _floor(one.floor_multiple)


def _gpu_text(row: Row) -> str:
    return "" if row.gpu is None else f"{1000 * row.gpu.compute_s.p50:.4g} ms" + _floor(row.gpu.floor_multiple)


def _floor(multiple: float | None) -> str:
    return f", {multiple:.2f}× floor" if multiple else ""


def _clock_text(row: Row) -> str:
    return f"{1000 * row.all_cores.wall_s.p50:.4g} ms"


def _frames_text(row: Row) -> str:
    return f"{row.end_to_end.frames_per_s.median:.3g} frames/s" if row.end_to_end else ""
