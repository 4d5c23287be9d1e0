"""A matrix as a picture whose every cell can be read, however many rows it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from nddr_deploy.errors import InputError
from nddr_deploy.tasks.base import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOTS_PER_INCH = 130
ROW, CELL, LETTER = 0.17, 0.62, 0.062  # inches: a row's height, a column's width, a letter's of a name at 7 points
MOST_PIXELS = 60000  # of one side; what writes PNG ends at 65536


@dataclass(frozen=True)
class Panel:
    """One matrix beside others that share its rows.

    Attributes:
        matrix: (rows, columns) float; NaN is drawn grey, with a dash.
        columns: their names.
        title: above the panel.
        scale: what the strongest colour stands for: "matrix", the largest value of all; "column", each column's own,
            for columns in different units.
        text: of a cell's value; None writes it to three digits of the largest that the colours are scaled by.
    """

    matrix: Array
    columns: Sequence[str]
    title: str = ""
    scale: Literal["matrix", "column"] = "matrix"
    text: Callable[[int, int, float], str] | None = None


def draw(
    matrix: Array,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    path: Path,
    *,
    scale: Literal["matrix", "column"] = "matrix",
    text: Callable[[int, int, float], str] | None = None,
    note: str = "",
) -> None:
    """A heat map with every value written into its cell; it grows with the rows. Values below 0 are blue.

    Args:
        matrix: (rows, columns) float; NaN is drawn grey, with a dash.
        rows, columns: their names.
        title: above the picture.
        path: a picture file whose format matplotlib writes.
        scale, text: as in `Panel`.
        note: a line below the title, small.

    Raises:
        InputError: names and matrix of different sizes, or nothing to draw.
    """
    draw_panels([Panel(matrix, columns, scale=scale, text=text)], rows, title, path, note=note)


def draw_panels(panels: Sequence[Panel], rows: Sequence[str], title: str, path: Path, *, note: str = "") -> None:
    """Several matrices side by side over the same rows; see `draw`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for panel in panels:
        if panel.matrix.shape != (len(rows), len(panel.columns)) or panel.matrix.size == 0:
            raise InputError(
                f"A matrix of shape {panel.matrix.shape} was given with {len(rows)} rows and {len(panel.columns)} "
                "columns of names; expected one name for each, and at least one value."
            )
    names = max(max(map(len, rows)) * LETTER, 0.5)
    above = max(len(column) for panel in panels for column in panel.columns) * LETTER
    widths = [max(1, len(panel.columns)) * CELL for panel in panels]
    width = names + sum(widths) + 0.25 * (len(panels) - 1) + 0.3
    titled = 0.25 if any(panel.title for panel in panels) else 0.0
    height = 0.65 + titled + above + ROW * len(rows)
    lines = [line for line in (title, note) if line]
    width = max(width, 0.3 + max((len(line) * LETTER * (1.45 if line is title else 1.1) for line in lines), default=0))
    dots = min(DOTS_PER_INCH, MOST_PIXELS / max(width, height))
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    left = names + 0.1
    for panel, panel_width in zip(panels, widths, strict=True):
        place = (left / width, 0.1 / height, panel_width / width, ROW * len(rows) / height)
        axes = figure.add_axes(place)
        _fill(axes, panel)
        axes.set_yticks(range(len(rows)), list(rows) if panel is panels[0] else [""] * len(rows), fontsize=7)
        middle = (left + panel_width / 2) / width
        figure.text(middle, place[1] + place[3] + (above + 0.12) / height, panel.title, fontsize=8, ha="center")
        left += panel_width + 0.25
    figure.text(0.1 / width, 1 - 0.1 / height, title, fontsize=10, va="top")
    if note:
        figure.text(0.1 / width, 1 - 0.32 / height, note, fontsize=7.5, va="top", color="dimgrey")
    figure.savefig(path, dpi=dots)


def _fill(axes: Axes, panel: Panel) -> None:
    """Colours, values and names of columns into one panel."""
    from matplotlib import colormaps

    values = np.asarray(panel.matrix, dtype=np.float64)
    finite = np.where(np.isfinite(values), values, 0.0)
    largest = np.abs(finite).max(axis=0 if panel.scale == "column" else None, keepdims=True)
    shares = finite / np.where(largest > 0, largest, 1.0)
    # The middle half of the range and the two ends differ most: a pale cell is small, a dark one the largest.
    colours = colormaps["RdBu_r"](0.5 + 0.42 * shares)
    colours[~np.isfinite(values)] = (0.85, 0.85, 0.85, 1.0)
    axes.imshow(colours, aspect="auto", interpolation="nearest")
    tops = np.broadcast_to(largest, values.shape)
    for (row, column), value in np.ndenumerate(values):
        written = panel.text(row, column, float(value)) if panel.text else _written(value, float(tops[row, column]))
        axes.text(
            column,
            row,
            written if np.isfinite(value) else "–",
            ha="center",
            va="center",
            fontsize=6,
            color="white" if abs(shares[row, column]) > 0.75 else "black",
        )
    axes.set_xticks(range(len(panel.columns)), list(panel.columns), fontsize=7, rotation=90)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_yticks([row - 0.5 for row in range(1, values.shape[0])], minor=True)
    axes.set_xticks([column - 0.5 for column in range(1, values.shape[1])], minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _written(value: float, largest: float) -> str:
    """A value as precisely as the largest of its kind to three digits; 0 where nothing is left of it."""
    decimals = 2 - math.floor(math.log10(largest)) if largest > 0 else 0
    if round(value, decimals) == 0:
        return "0"
    return f"{value:.{max(decimals, 0)}f}" if -3 <= decimals <= 5 else f"{value:.1e}"
