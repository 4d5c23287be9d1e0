"""How a frame and its results become one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from math import ceil, log

import numpy as np
import numpy.typing as npt

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.inference.base import Result
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array, Task
from nddr_deploy.tasks.drawing import draw_badge, draw_legend
from nddr_deploy.tasks.palette import Colour

Size = tuple[int, int]

BACKGROUND = (24, 24, 24)
BORDER = (230, 230, 230)
INSET_SIDE = 0.28  # of the frame's sides
INSETS_WIDTH = 0.66  # of the frame's width, all together: the rest is for the legend
SMALLEST_INSET = 8  # pixels; below, nothing could be seen
LEGEND_ROW, LEGEND_COLUMN = 10, 200  # pixels that a legend's row and column take at least
GOOD_SHAPE = 16 / 9  # of a large video: what screens are


class Layout:
    """Draws results onto frames.

    Everything is laid out for the size of the frame at hand, so frames of different sizes may follow each other.

    Args:
        tasks: what to draw, in this order; results of other tasks are left out.
        name: one of LAYOUTS.
        alpha: how much of the frame the overlay covers, 0 to 1.

    Raises:
        ConfigError: an unknown layout, or alpha is not between 0 and 1.
    """

    def __init__(self, tasks: Sequence[Task], name: str = "overlay", alpha: float = 0.5) -> None:
        if name not in LAYOUTS:
            raise unknown_choice("layout", name, LAYOUTS)
        if not 0 <= alpha <= 1:
            raise ConfigError(
                f"alpha: expected a number from 0 (only the frame) to 1 (only the result); got {alpha!r}."
            )
        self.name = name
        self.alpha = float(alpha)
        self.dense = tuple(task for task in tasks if task.head == "dense")
        self.pooled = tuple(task for task in tasks if task.head == "pooled")

    def compose(self, result: Result) -> Image:
        """The picture, RGB uint8, of `size_hw(frame size)`. The frame itself is left as it is."""
        return LAYOUTS[self.name](self, result)

    def size_hw(self, frame_hw: Size) -> Size:
        """The size of the picture for a frame of this size: larger than the frame only for tiles."""
        if self.name != "tiles":
            return frame_hw
        rows, columns = tiling(len(self.dense) + 1, frame_hw)
        return rows * frame_hw[0], columns * frame_hw[1]

    def captions(self, result: Result) -> list[str]:
        return [task.caption(result.decoded[task.name]) for task in self.pooled]


def overlay(layout: Layout, result: Result) -> Image:
    """One dense result blended into the frame, the first segmentation if there is one; the others as insets."""
    import cv2

    frame = result.frame.image
    height, width = frame.shape[:2]
    main = next((task for task in layout.dense if task.kind == "segmentation"), next(iter(layout.dense), None))
    others = [task for task in layout.dense if task is not main]
    lines = layout.captions(result)
    picture: Image = frame
    if main is not None:
        drawn = main.render(result.decoded[main.name], frame)
        picture = np.asarray(cv2.addWeighted(frame, 1 - layout.alpha, drawn, layout.alpha, 0), dtype=np.uint8)
        lines.insert(0, main.name)
    picture = draw_badge(picture, lines)
    _stamp(picture, result.frame.time_s)

    inset_hw = _inset_hw((height, width), len(others))
    gap = max(min(height, width) // 80, 1)
    left = width
    for task in reversed(others if min(inset_hw) >= SMALLEST_INSET else []):
        left -= inset_hw[1] + gap
        top = height - gap - inset_hw[0]
        inset = picture[top : top + inset_hw[0], left : left + inset_hw[1]]
        inset[:] = _panel(task, result.decoded[task.name], frame, inset_hw)
        cv2.rectangle(inset, (0, 0), (inset_hw[1] - 1, inset_hw[0] - 1), BORDER, 1 + min(inset_hw) // 200)
        # The text's size follows the smaller side: with the picture above, that is the inset's width.
        column = picture[: top + inset_hw[0], left : left + inset_hw[1]]
        column[:] = draw_badge(column, [task.name], "bottom-left")
    if main is not None:
        beside = picture[:, :left]
        beside[:] = draw_legend(beside, legend_rows(main, result.decoded[main.name], beside.shape), "bottom-left")
    return picture


def grid(layout: Layout, result: Result) -> Image:
    """The frame and every dense result, scaled to share a picture of the frame's size."""
    frame_hw = result.frame.image.shape[:2]
    rows, columns = division(len(layout.dense) + 1, (frame_hw[0], frame_hw[1]))
    return _panels(layout, result, rows, columns, (frame_hw[0], frame_hw[1]))


def tiles(layout: Layout, result: Result) -> Image:
    """The frame and every dense result in full size, beside each other."""
    height, width = result.frame.image.shape[:2]
    rows, columns = tiling(len(layout.dense) + 1, (height, width))
    return _panels(layout, result, rows, columns, (rows * height, columns * width))


LAYOUTS: dict[str, Callable[[Layout, Result], Image]] = {"overlay": overlay, "grid": grid, "tiles": tiles}


def division(count: int, frame_hw: Size) -> tuple[int, int]:
    """Rows and columns that show `count` panels of the frame's shape as large as they can be in the frame's size.

    Between equally good ones, a landscape frame gets more columns than rows.
    """
    choices = [(ceil(count / columns), columns) for columns in range(1, count + 1)]
    wide = frame_hw[1] >= frame_hw[0]
    return min(choices, key=lambda choice: (max(choice), choice[0] if wide else choice[1]))


def tiling(count: int, frame_hw: Size) -> tuple[int, int]:
    """Rows and columns for `count` full-size panels: a shape like a screen's, with few empty places."""

    def cost(choice: tuple[int, int]) -> float:
        rows, columns = choice
        shape = (columns * frame_hw[1]) / (rows * frame_hw[0])
        return abs(log(shape / GOOD_SHAPE)) + 0.5 * (rows * columns - count)

    choices = [(ceil(count / columns), columns) for columns in range(count, 0, -1)]
    return min(choices, key=cost)


def _panels(layout: Layout, result: Result, rows: int, columns: int, size_hw: Size) -> Image:
    import cv2

    frame = result.frame.image
    picture = np.empty((*size_hw, 3), dtype=np.uint8)
    picture[:] = BACKGROUND
    for index, task in enumerate((None, *layout.dense)):
        row, column = divmod(index, columns)
        top, bottom = row * size_hw[0] // rows, (row + 1) * size_hw[0] // rows
        left, right = column * size_hw[1] // columns, (column + 1) * size_hw[1] // columns
        cell = picture[top:bottom, left:right]
        panel_hw = _fitted(frame.shape[:2], cell.shape[:2])
        if min(panel_hw) < 1:
            continue  # a frame of fewer pixels than panels
        y, x = (cell.shape[0] - panel_hw[0]) // 2, (cell.shape[1] - panel_hw[1]) // 2
        panel = cell[y : y + panel_hw[0], x : x + panel_hw[1]]
        if task is None:
            shrinks = panel_hw != frame.shape[:2]
            panel[:] = cv2.resize(frame, panel_hw[::-1], interpolation=cv2.INTER_AREA) if shrinks else frame
            panel[:] = draw_badge(panel, layout.captions(result))
            _stamp(panel, result.frame.time_s)
        else:
            panel[:] = _panel(task, result.decoded[task.name], frame, panel_hw)
            panel[:] = draw_badge(panel, [task.name])
            below = cell[y:]  # the legend lies in the dark bar under the panel where there is one
            rows_shown = legend_rows(task, result.decoded[task.name], panel_hw)
            below[:] = draw_legend(below, rows_shown, "bottom-left")
    return picture


def legend_rows(task: Task, decoded: Array, room_hw: Sequence[int]) -> list[tuple[str, Colour]]:
    """The legend's rows where half of the height holds all; else those of the most frequent classes in the picture."""
    rows = task.legend()
    columns = 1 + min(room_hw[1] // LEGEND_COLUMN, 3)
    room = max(room_hw[0] // (2 * LEGEND_ROW), 2) * columns
    if len(rows) <= room or task.kind != "segmentation":
        return rows
    step = max(min(decoded.shape[:2]) // 120, 1)  # enough pixels to count
    shares = np.bincount(decoded[::step, ::step].ravel(), minlength=len(rows))[: len(rows)]
    frequent = np.argsort(-shares, kind="stable")[:room]
    return [rows[index] for index in sorted(frequent.tolist()) if shares[index]]


def _panel(task: Task, decoded: Array, frame: Image, size_hw: Size) -> Image:
    """The result's picture at a size of at most the frame's. Few pixels are picked first: drawing all takes long."""
    frame_hw = frame.shape[:2]
    if size_hw == frame_hw:
        return task.render(decoded, frame)
    rows, columns = _picked(frame_hw[0], size_hw[0]), _picked(frame_hw[1], size_hw[1])
    few = decoded.take(rows, axis=0).take(columns, axis=1)
    return task.render(few, frame[: size_hw[0], : size_hw[1]])


@lru_cache(maxsize=64)
def _picked(size: int, count: int) -> npt.NDArray[np.int64]:
    """The middle lines of `count` equal parts of `size` lines."""
    return ((np.arange(count) + 0.5) * (size / count)).astype(np.int64)


def _fitted(frame_hw: Sequence[int], room_hw: Sequence[int]) -> Size:
    """The largest size of the frame's shape that fits; at most the frame's own."""
    factor = min(room_hw[0] / frame_hw[0], room_hw[1] / frame_hw[1], 1.0)
    height, width = round(frame_hw[0] * factor), round(frame_hw[1] * factor)
    return min(height, room_hw[0]), min(width, room_hw[1])


def _inset_hw(frame_hw: Size, count: int) -> Size:
    side = min(INSET_SIDE, INSETS_WIDTH / max(count, 1) - 0.01)
    return round(frame_hw[0] * side), round(frame_hw[1] * side)


def _stamp(picture: Image, time_s: Fraction | None) -> None:
    if time_s is not None:
        picture[:] = draw_badge(picture, [clock_text(time_s)], "top-right")


def clock_text(time_s: Fraction) -> str:
    """Minutes, seconds and hundredths, with hours where there are any.

    >>> clock_text(Fraction(61)), clock_text(Fraction(3600)), clock_text(Fraction(-1, 4))
    ('1:01.00', '1:00:00.00', '-0:00.25')
    """
    hundredths = abs(time_s) * 100 // 1
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if time_s < 0 else ""
    front = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{sign}{front}:{rest // 100:02d}.{rest % 100:02d}"
