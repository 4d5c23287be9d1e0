"""Text on pictures: badges and legends. Sizes follow the picture's; white on dark stays readable on any background."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from nddr_deploy.errors import unknown_choice
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.palette import Colour

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
CORNERS: tuple[Corner, ...] = get_args(Corner)

PANEL = (16, 16, 16, 170)  # red, green, blue, opacity: white text on it keeps a contrast of 4.5 even on white
SMALLEST_TEXT = 7  # pixels
LEGEND_SHARE = 0.2  # of the picture's area; a longer legend gets smaller text


def draw_badge(image: Image, lines: Sequence[str], corner: Corner = "top-left") -> Image:
    """A copy of the picture with lines of text on a dark, half-transparent panel in a corner.

    Text that would not fit gets smaller, then shortened; a picture too small for any text is returned as it is.

    Args:
        image: RGB uint8 (H, W, 3).
        lines: from top to bottom, any script that DejaVu Sans has.
        corner: one of CORNERS.
    """
    rows = tuple((line, None) for line in lines)
    return _draw(image, rows, corner, text=min(image.shape[:2]) / 20, share=1.0)


def draw_legend(image: Image, rows: Sequence[tuple[str, Colour]], corner: Corner = "bottom-left") -> Image:
    """A copy of the picture with colour samples and their names, in as many columns as it takes.

    Rows that do not fit even in the smallest text are left out, and the last row says how many.

    Args:
        image: RGB uint8 (H, W, 3).
        rows: (text, RGB colour), as `Task.legend` gives them.
        corner: one of CORNERS.
    """
    samples = tuple((text, (int(red), int(green), int(blue))) for text, (red, green, blue) in rows)
    return _draw(image, samples, corner, text=min(image.shape[:2]) / 34, share=LEGEND_SHARE)


def side_by_side(pictures: Sequence[Image], gap: int = 4) -> Image:
    """Pictures in a row on white, with so many pixels of it to the right of and below each."""
    height = max(picture.shape[0] for picture in pictures) + gap
    return np.concatenate([on_white(picture, height, picture.shape[1] + gap) for picture in pictures], axis=1)


def on_white(picture: Image, height: int, width: int) -> Image:
    """A picture in the top left corner of a white sheet, in pixels."""
    sheet = np.full((height, width, 3), 255, np.uint8)
    sheet[: picture.shape[0], : picture.shape[1]] = picture
    return sheet


Row = tuple[str, Colour | None]


def _draw(image: Image, rows: tuple[Row, ...], corner: Corner, *, text: float, share: float) -> Image:
    if corner not in CORNERS:
        raise unknown_choice("corner", corner, CORNERS)
    picture = image.copy()
    height, width = picture.shape[:2]
    panel = _panel(rows, height, width, round(min(max(text, 10), 64)), share)
    if panel is None:
        return picture
    top = 0 if corner.startswith("top") else height - panel.shape[0]
    left = 0 if corner.endswith("left") else width - panel.shape[1]
    part = picture[top : top + panel.shape[0], left : left + panel.shape[1]]
    opacity = panel[..., 3:].astype(np.uint16)
    part[:] = (part * (255 - opacity) + panel[..., :3] * opacity + 127) // 255
    return picture


class _Layout(NamedTuple):
    """Columns of rows in one size of text, all lengths in pixels."""

    rows: tuple[Row, ...]
    size: int
    per_column: int
    widths: tuple[int, ...]  # of the columns, gap included

    @property
    def line(self) -> int:
        return ceil(1.35 * self.size)

    @property
    def margin(self) -> int:
        return max(2, self.size // 3)

    @property
    def sample(self) -> int:
        """Width of a colour sample with its gap; 0 where the rows have none."""
        return ceil(1.3 * self.size) if any(colour for _, colour in self.rows) else 0

    @property
    def hw(self) -> tuple[int, int]:
        return self.per_column * self.line + 2 * self.margin, sum(self.widths) + self.margin


@lru_cache(maxsize=64)
def _panel(rows: tuple[Row, ...], height: int, width: int, size: int, share: float) -> npt.NDArray[np.uint8] | None:
    """RGBA of the panel, at most (height, width); None where nothing fits. Kept, for it is the same on every frame."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    layout = _layout(rows, height, width, size, share)
    if layout is None:
        return None
    canvas = Pillow.new("RGBA", layout.hw[::-1], PANEL)
    draw = ImageDraw.Draw(canvas)
    half = layout.size // 2
    for index, (text, colour) in enumerate(layout.rows):
        column, row = divmod(index, layout.per_column)
        x = layout.margin + sum(layout.widths[:column])
        middle = layout.margin + row * layout.line + layout.line // 2
        if colour is not None:
            box = (x, middle - half, x + 2 * half, middle + half)
            draw.rectangle(box, fill=(*colour, 255), outline=(140, 140, 140, 255))
        draw.text((x + layout.sample, middle), text, font=_font(layout.size), fill=(255, 255, 255, 255), anchor="lm")
    return np.asarray(canvas, dtype=np.uint8)


def _layout(rows: tuple[Row, ...], height: int, width: int, size: int, share: float) -> _Layout | None:
    """The largest text within the share of the picture; else the smallest text, with as many rows as fit."""
    if not rows:
        return None
    for smaller in range(size, SMALLEST_TEXT - 1, -1):
        found = _columns(rows, smaller, height, width, share * height * width)
        if found is not None:
            return found
    smallest = max(_Layout(rows, SMALLEST_TEXT, 1, ()).line, 1)
    for kept in range(len(rows), 0, -1):
        rest = len(rows) - kept
        shown = rows[:kept] + (((f"+ {rest} more", None),) if rest else ())
        layout = _Layout(shown, SMALLEST_TEXT, len(shown), ())
        room = width - 2 * layout.margin - layout.sample - SMALLEST_TEXT
        if room < 2 * smallest:
            return None
        shortened = tuple((_shorten(text, room), colour) for text, colour in shown)
        found = _columns(shortened, SMALLEST_TEXT, height, width, float(height * width))
        if found is not None:
            return found
    return None


def _columns(rows: tuple[Row, ...], size: int, height: int, width: int, area: float) -> _Layout | None:
    """The fewest columns that fit into the picture and the area, at most half its height where that is possible."""
    lengths = [ceil(_font(size).getlength(text)) for text, _ in rows]
    extra = _Layout(rows, size, 1, ()).sample + size
    for tallest in (height // 2, height):
        for columns in range(1, len(rows) + 1):
            per_column = ceil(len(rows) / columns)
            starts = range(0, len(rows), per_column)
            widths = tuple(max(lengths[start : start + per_column]) + extra for start in starts)
            layout = _Layout(rows, size, per_column, widths)
            if layout.hw[1] > width:
                break
            if layout.hw[0] <= tallest and layout.hw[0] * layout.hw[1] <= area:
                return layout
    return None


def _shorten(text: str, room: int) -> str:
    font = _font(SMALLEST_TEXT)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


@lru_cache(maxsize=64)
def _font(size: int) -> Any:
    import matplotlib  # it brings DejaVu Sans: Latin, Greek, Cyrillic and more, where cv2 has ASCII alone
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
