"""Curves as SVG: no script, no picture file; they follow the page's width and its light or dark style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nddr_deploy.page.figures import short_number
from nddr_deploy.page.markup import Html, tag

WIDTH, HEIGHT = 380.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 10.0, 26.0
COLOURS = 8  # that the style has
LOGARITHMIC_FROM = 50.0  # largest over smallest: beyond, the end of a curve could not be read on a linear axis
MOST_POINTS = 240  # of a curve: more than that cannot be seen


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: in the legend.
        points: (x, y), x ascending. What is no finite number is left out.
        colour: number of its colour, from 0.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    value: Callable[[float], str] = short_number,
    dots: bool = False,
    bounds: tuple[float, float] | None = None,
) -> Html | None:
    """A titled chart with its legend; None where there is no point to draw.

    The axis is logarithmic where values are positive and span more than `LOGARITHMIC_FROM` to 1, and says so.

    Args:
        lines: sharing both axes.
        value: writes a value at the axis.
        dots: mark every point, where there are few.
        bounds: of the vertical axis; None is those of the values.
    """
    lines = [Line(line.name, _seen(line.points), line.colour) for line in lines]
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    low, high = bounds or _widened(min(ys), max(ys))
    logarithmic = bounds is None and min(ys) > 0 and max(ys) > LOGARITHMIC_FROM * min(ys)
    if logarithmic:
        low, high = min(ys) / 1.1, max(ys) * 1.1
    first, last = min(xs), max(xs)

    def across(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((x - first) / (last - first) if last > first else 0.5)

    def up(y: float) -> float:
        share = math.log(y / low) / math.log(high / low) if logarithmic else (y - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(share, 0.0), 1.0)

    parts: list[Html] = []
    for tick in _powers(low, high) if logarithmic else _ticks(low, high, 4):
        y = round(up(tick), 1)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", value(tick), x=LEFT - 6, y=y + 4, text_anchor="end"))
    for tick in _ticks(first, last, 4) if last > first else [first]:
        parts.append(tag("text", f"{tick:g}", x=round(across(tick), 1), y=HEIGHT - 8, text_anchor="middle"))
    for line in lines:
        places = [(round(across(x), 1), round(up(y), 1)) for x, y in line.points]
        path = " ".join(f"{x:g},{y:g}" for x, y in places)
        parts.append(tag("polyline", points=path, class_=f"curve c{line.colour % COLOURS}"))
        if dots or len(places) == 1:
            parts += [tag("circle", cx=x, cy=y, r=3.0, class_=f"point c{line.colour % COLOURS}") for x, y in places]
    drawing = tag(
        "svg",
        tag("title", title),
        *parts,
        viewbox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label=f"{title}: {', '.join(line.name for line in lines)}",
        class_="chart",
    )
    heading = tag("strong", title + (" (logarithmic)" if logarithmic else ""))
    return tag("figure", tag("figcaption", heading), drawing, _legend(lines), class_="lines")


def _legend(lines: Sequence[Line]) -> Html | None:
    if len(lines) < 2:
        return None
    items = [tag("li", tag("span", class_=f"c{line.colour % COLOURS}"), line.name) for line in lines]
    return tag("ul", *items, class_="legend")


def _seen(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MOST_POINTS`, each the mean of neighbours; the last stays what it is."""
    finite = [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    size = math.ceil(len(finite) / MOST_POINTS)
    if size < 2:
        return finite
    parts = [finite[start : start + size] for start in range(0, len(finite) - 1, size)]
    means = [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]
    return [*means, finite[-1]]


def _widened(low: float, high: float) -> tuple[float, float]:
    size = max(abs(low), abs(high))
    room = max(0.06 * (high - low), 0.003 * size) or 1.0  # four digits must tell the ticks apart
    return low - room if low < 0 or low - room > 0 else 0.0, high + room


def _ticks(low: float, high: float, count: int) -> list[float]:
    """About so many round numbers from `low` to `high`."""
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`, and three times those where they are few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    few = sum(low <= 10.0**exponent <= high for exponent in exponents) <= 3
    ticks = [factor * 10.0**exponent for exponent in exponents for factor in ((1, 3) if few else (1,))]
    return [tick for tick in ticks if low <= tick <= high]
