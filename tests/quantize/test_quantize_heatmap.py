"""Matrices as pictures: what is large is dark, every value is written, and every row has its room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.axes
import numpy as np
import pytest
from PIL import Image

from nddr_deploy.errors import InputError
from nddr_deploy.quantize.heatmap import DOTS_PER_INCH, ROW, Panel, draw, draw_panels

NAN = float("nan")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What was asked of matplotlib: the texts in cells as (column, row, text), and the cells' colours of each panel."""
    seen: dict[str, list[Any]] = {"texts": [], "colours": []}
    text, imshow = matplotlib.axes.Axes.text, matplotlib.axes.Axes.imshow

    def noted_text(axes: Any, column: float, row: float, written: str, **options: Any) -> Any:
        seen["texts"].append((column, row, written))
        return text(axes, column, row, written, **options)

    def noted_imshow(axes: Any, colours: Any, **options: Any) -> Any:
        seen["colours"].append(np.asarray(colours))
        return imshow(axes, colours, **options)

    monkeypatch.setattr(matplotlib.axes.Axes, "text", noted_text)
    monkeypatch.setattr(matplotlib.axes.Axes, "imshow", noted_imshow)
    return seen


def written(drawn: dict[str, list[Any]], rows: int, columns: int) -> list[list[str]]:
    found = {(row, column): text for column, row, text in drawn["texts"]}
    return [[found[row, column] for column in range(columns)] for row in range(rows)]


def pixels(path: Path) -> Any:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_every_value_is_written_as_precisely_as_the_largest_of_its_column(drawn, tmp_path):
    matrix = np.array([[0.0618, 5.3e-7, 1234.4], [-0.00003, -1e-7, 0.2], [0.0, NAN, -7.0]])

    draw(matrix, ["a", "b", "c"], ["x", "y", "z"], "Title", tmp_path / "map.png", scale="column")

    assert written(drawn, 3, 3) == [["0.0618", "5.3e-07", "1234"], ["0", "-1.0e-07", "0"], ["0", "–", "-7"]]


def test_a_matrix_of_nothing_is_drawn_as_that(drawn, tmp_path):
    draw(np.zeros((2, 1)), ["a", "b"], ["x"], "Title", tmp_path / "map.png")

    assert written(drawn, 2, 1) == [["0"], ["0"]]
    assert np.ptp(drawn["colours"][0], axis=(0, 1)).max() == 0


def test_cells_may_say_what_the_caller_wants(drawn, tmp_path):
    draw(
        np.eye(2), ["a", "b"], ["x", "y"], "Title", tmp_path / "map.png", text=lambda row, column, value: f"{value:.0%}"
    )

    assert written(drawn, 2, 2) == [["100%", "0%"], ["0%", "100%"]]


def test_losses_are_red_gains_blue_and_what_is_unknown_grey(drawn, tmp_path):
    draw(np.array([[1.0, -1.0, 0.0, NAN]]), ["a"], list("wxyz"), "Title", tmp_path / "map.png")

    (red, blue, pale, grey) = drawn["colours"][0][0][:, :3]
    assert red[0] > 2 * red[2]
    assert blue[2] > 2 * blue[0]
    assert pale.min() > 0.9
    assert np.ptp(grey) == 0
    assert grey[0] < 0.9


def test_columns_in_different_units_have_colours_of_their_own(drawn, tmp_path):
    matrix = np.array([[100.0, 0.1], [50.0, 0.05]])

    for scale in ("column", "matrix"):
        draw(matrix, ["a", "b"], ["degrees", "share"], "Title", tmp_path / "map.png", scale=scale)

    own, common = drawn["colours"]
    assert np.allclose(own[:, 0], own[:, 1])
    assert common[:, 1, :3].min() > 0.9  # beside 100, 0.1 is next to nothing


@pytest.mark.parametrize("rows", [1, 7, 150])
def test_every_row_has_room_for_its_name(rows, tmp_path):
    path = tmp_path / "map.png"

    draw(np.random.default_rng(0).random((rows, 2)), [f"stages.{row}/Conv" for row in range(rows)], "ab", "T", path)

    height = pixels(path).shape[0]
    assert height >= rows * ROW * DOTS_PER_INCH
    assert ROW * DOTS_PER_INCH > 7 * DOTS_PER_INCH / 72 * 1.3  # names are 7 points high; some air between


def test_rows_beyond_what_a_picture_can_hold_are_drawn_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr("nddr_deploy.quantize.heatmap.MOST_PIXELS", 500)
    path = tmp_path / "map.png"

    draw(np.zeros((40, 1)), [str(row) for row in range(40)], ["x"], "T", path)

    assert pixels(path).shape[0] <= 501


def test_names_columns_and_titles_lie_inside_of_the_picture(tmp_path):
    path = tmp_path / "map.png"
    rows = ["stages.4.segmentation.layer4.0.downsample.0/Conv", "b"]
    columns = ["segmentation.within_11.25 (points)", "x"]
    panels = [Panel(np.eye(2), columns, "this layer alone"), Panel(np.eye(2), columns, "given back")]

    draw_panels(panels, rows, "A title that is longer than the matrices are wide" * 2, path, note="and a note")

    picture = pixels(path)
    border = np.concatenate([picture[:6].reshape(-1, 3), picture[:, :6].reshape(-1, 3), picture[:, -6:].reshape(-1, 3)])
    assert border.min() > 250
    assert picture[-4:].min() > 250


def test_panels_share_the_names_of_their_rows(tmp_path):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    panel = Panel(np.eye(3), ["x", "y", "z"], "title")

    draw_panels([panel], ["some long name", "b", "c"], "T", one)
    draw_panels([panel, panel], ["some long name", "b", "c"], "T", two)

    (height, width, _), (higher, wider, _) = pixels(one).shape, pixels(two).shape
    assert higher == height
    assert width < wider < 2 * width


@pytest.mark.parametrize(
    ("matrix", "rows", "columns"),
    [(np.zeros((2, 3)), ["a"], list("xyz")), (np.zeros((2, 3)), ["a", "b"], ["x"]), (np.zeros((0, 2)), [], ["x", "y"])],
)
def test_names_that_do_not_fit_the_matrix_are_refused(matrix, rows, columns, tmp_path):
    with pytest.raises(InputError, match=r"matrix of shape \(\d, \d\)"):
        draw(matrix, rows, columns, "T", tmp_path / "map.png")

    assert list(tmp_path.iterdir()) == []
