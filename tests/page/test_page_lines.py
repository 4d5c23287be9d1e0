"""Curves: where points lie, what axes say, and what is left out."""

from __future__ import annotations

import math
import re

import pytest

from nddr_deploy.page.lines import BOTTOM, HEIGHT, LEFT, MOST_POINTS, RIGHT, TOP, WIDTH, Line, line_chart


def places(chart: str | None, number: int = 0) -> list[tuple[float, float]]:
    """The points of a curve, as they are drawn."""
    assert chart is not None
    points = re.findall(r'<polyline points="([^"]*)"', chart)[number]
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in points.split())]


def labels(chart: str | None) -> list[str]:
    assert chart is not None
    return re.findall(r"<text[^>]*>([^<]*)</text>", chart)


def test_the_first_point_is_left_the_last_right_and_larger_values_are_higher() -> None:
    chart = line_chart("loss", [Line("loss", [(0, 1.0), (5, 2.0), (10, 3.0)])], bounds=(1.0, 3.0))

    middle = ((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2)
    assert places(chart) == [(LEFT, HEIGHT - BOTTOM), middle, (WIDTH - RIGHT, TOP)]
    assert labels(chart) == ["1", "1.5", "2", "2.5", "3", "0", "2.5", "5", "7.5", "10"]


def test_values_that_span_much_have_a_logarithmic_axis_that_says_so() -> None:
    chart = line_chart("loss", [Line("loss", [(1, 100.0), (2, 10.0), (3, 1.0)])])

    assert "loss (logarithmic)" in str(chart)
    heights = [y for _, y in places(chart)]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.11)  # rounded to tenths
    assert labels(chart)[:5] == ["1", "3", "10", "30", "100"]


def test_what_is_no_number_is_left_out_and_nothing_at_all_makes_no_chart() -> None:
    chart = line_chart("a", [Line("a", [(1, math.nan), (2, 0.5), (3, math.inf), (4, 0.6)]), Line("b", [])])

    assert len(places(chart)) == 2
    assert "legend" not in str(chart)
    assert line_chart("a", [Line("a", [(1, math.nan)]), Line("b", [])]) is None


@pytest.mark.parametrize("value", [0.0, 5.0, -2.0, 1e-9])
def test_one_point_is_a_dot(value: float) -> None:
    chart = str(line_chart("a", [Line("a", [(40, value)])]))

    assert chart.count("<circle") == 1
    assert "nan" not in chart


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    chart = line_chart("a", [Line("a", [(step, step % 2) for step in range(10_000)])])

    found = places(chart)
    assert MOST_POINTS / 2 < len(found) <= MOST_POINTS + 1
    assert found[-1] == (WIDTH - RIGHT, pytest.approx(places(chart)[-1][1]))


def test_several_curves_have_a_legend_and_names_are_escaped() -> None:
    chart = str(line_chart("<b>", [Line("<i>", [(0, 1), (1, 2)], 0), Line("x", [(0, 1), (1, 3)], 9)]))

    assert "<i>" not in chart
    assert "<b>" not in chart
    assert 'class="c1"' in chart  # there are eight colours


def test_values_that_hardly_differ_still_have_ticks_that_do() -> None:
    ticks = labels(line_chart("a", [Line("a", [(0, 25.970), (1, 25.971)])]))[:-5]

    assert len(set(ticks)) == len(ticks) > 1
