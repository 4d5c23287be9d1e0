"""The report as a picture."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nddr_deploy.benchmark.report import BenchmarkReport, Row
from nddr_deploy.benchmark.timing import Spread

COLOURS = {"fp32": "#4c78a8", "bf16": "#f58518", "fp16": "#54a24b", "int8": "#b279a2"}
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # keeps the line at 1 out of the texts
DOTS_PER_INCH = 150


def draw(report: BenchmarkReport, path: Path) -> None:
    """Horizontal bars of the speed-up over the first case, with the range over rounds, one panel per section.

    Args:
        report: of one run.
        path: a picture file whose format matplotlib writes.
    """
    alone, together = ([row.one_thread.speedup for row in report.rows], [row.all_cores.speedup for row in report.rows])
    sections = [
        ("engine, one thread\n(processor time)", alone, _one_thread_text),
        (f"engine, all cores ({report.threads})\n(by the clock)", together, _clock_text),
    ]
    runs = [row.end_to_end for row in report.rows if row.end_to_end]
    if runs:
        sections.append((f"end to end on {report.input}\n(all cores)", [run.speedup for run in runs], _frames_text))
    height = 1.6 + 0.55 * len(report.rows)
    figure = Figure(figsize=(1.8 + 4.2 * len(sections), height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(sections), sharey=True, squeeze=False)[0]
    panels[0].invert_yaxis()  # the first case on top; the axis is shared
    for panel, (title, speedups, text) in zip(panels, sections, strict=True):
        _bars(panel, report.rows, speedups, [text(row) for row in report.rows])
        panel.set_title(title, fontsize=10)
        panel.set_xlabel(f"times faster than {report.rows[0].label}", fontsize=9)
    model = report.model
    size = "x".join(map(str, model["size_hw"]))
    figure.suptitle(f"{model['network'] or model['file']}, {size}, {model['flops'] / 1e9:.0f} GFLOP", fontsize=11)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _bars(panel: Axes, rows: tuple[Row, ...], speedups: list[Spread], texts: list[str]) -> None:
    places = range(len(rows))
    widths = [spread.median for spread in speedups]
    reach = [[spread.median - spread.min for spread in speedups], [spread.max - spread.median for spread in speedups]]
    panel.barh(places, widths, xerr=reach, color=[COLOURS[row.precision] for row in rows], height=0.6, capsize=3)
    widest = max(spread.max for spread in speedups)
    for place, spread, text in zip(places, speedups, texts, strict=True):
        panel.text(
            spread.max + 0.02 * widest,
            place,
            f"{spread.median:.2f}×  {text}",
            va="center",
            fontsize=8,
            bbox=BEHIND,
        )
    panel.axvline(1, color="grey", linewidth=0.8, linestyle=":")
    panel.set_xlim(0, 1.8 * widest)  # room for the texts
    panel.set_yticks(places, [row.label for row in rows])
    panel.spines[["top", "right"]].set_visible(False)


def _one_thread_text(row: Row) -> str:
    floor = row.one_thread.floor_multiple
    return f"{1000 * row.one_thread.cpu_s.p50:.4g} ms" + (f", {floor:.2f}× floor" if floor else "")


def _clock_text(row: Row) -> str:
    return f"{1000 * row.all_cores.wall_s.p50:.4g} ms"


def _frames_text(row: Row) -> str:
    return f"{row.end_to_end.frames_per_s.median:.3g} frames/s" if row.end_to_end else ""
