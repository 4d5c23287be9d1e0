from __future__ import annotations

import numpy as np
import pytest

from nddr_deploy.errors import ConfigError
from nddr_deploy.tasks.drawing import CORNERS, draw_badge, draw_legend
from nddr_deploy.tasks.palette import distinct_colours

ROWS = [(f"class number {index}", colour) for index, colour in enumerate(distinct_colours(41))]


def grey(height: int, width: int, value: int = 100) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> tuple[slice, slice]:
    rows, columns = np.nonzero((before != after).any(axis=2))
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


@pytest.mark.parametrize("corner", CORNERS)
def test_a_badge_lies_in_its_corner(corner: str) -> None:
    frame = grey(240, 320)

    rows, columns = changed(frame, draw_badge(frame, ["age 34"], corner))  # type: ignore[arg-type]

    assert (rows.start == 0, rows.stop == 240) == (corner.startswith("top"), corner.startswith("bottom"))
    assert (columns.start == 0, columns.stop == 320) == (corner.endswith("left"), corner.endswith("right"))


@pytest.mark.parametrize("value", [0, 100, 255])
def test_text_stands_out_from_its_panel_on_any_background(value: int) -> None:
    frame = grey(240, 320, value)

    picture = draw_badge(frame, ["age 34"])

    panel = picture[changed(frame, picture)].astype(float)
    assert panel.max() == 255
    background = np.median(panel) / 255
    luminance = (background / 12.92) if background <= 0.04045 else ((background + 0.055) / 1.055) ** 2.4
    assert 1.05 / (luminance + 0.05) >= 4.5  # contrast by WCAG 2, level AA


def test_text_grows_with_the_picture() -> None:
    heights = []
    for size in ((240, 320), (480, 640), (1080, 1920)):
        rows, _ = changed(grey(*size), draw_badge(grey(*size), ["age 34"]))
        heights.append(rows.stop - rows.start)

    assert heights[0] < heights[1] < heights[2] < 1080 / 8


def test_a_legend_shows_every_colour_and_covers_a_fifth_of_the_picture_at_most() -> None:
    frame = grey(480, 640)

    picture = draw_legend(frame, ROWS)

    rows, columns = changed(frame, picture)
    assert (rows.stop - rows.start) * (columns.stop - columns.start) <= 0.2 * 480 * 640
    shown = set(map(tuple, picture[rows, columns].reshape(-1, 3).tolist()))
    assert all(colour in shown for _, colour in ROWS)


@pytest.mark.parametrize("size", [(1, 1), (5, 200), (16, 16), (64, 48), (30, 400), (700, 60), (120, 160)])
def test_a_small_picture_gets_what_fits_and_never_fails(size: tuple[int, int]) -> None:
    frame = grey(*size)

    for picture in (draw_legend(frame, ROWS), draw_badge(frame, ["gender female 93 %", "age 34"])):
        assert picture.shape == frame.shape
        assert picture.dtype == np.uint8
        assert (frame == 100).all()


def test_nothing_to_say_leaves_the_picture_as_it_is() -> None:
    frame = grey(48, 64)

    for picture in (draw_legend(frame, []), draw_badge(frame, [])):
        np.testing.assert_array_equal(picture, frame)
        assert not np.shares_memory(picture, frame)


def test_letters_beyond_ascii_are_drawn() -> None:
    frame = grey(240, 320)

    pictures = [draw_badge(frame, [text]) for text in ("ü", "ö", "ж")]

    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])


def test_an_unknown_corner_is_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'top-left'"):
        draw_badge(grey(10, 10), ["x"], "topleft")  # type: ignore[arg-type]
