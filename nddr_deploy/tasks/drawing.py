"""Text on pictures: badges and legends. Sizes follow the picture's, colours stay readable on any background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.palette import Colour

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]


def draw_badge(image: Image, lines: Sequence[str], corner: Corner = "top-left") -> Image:
    """A copy of the picture with lines of text on a dark, half-transparent panel in a corner."""
    return draw_legend(image, [(line, (40, 40, 40)) for line in lines], corner)


def draw_legend(image: Image, rows: Sequence[tuple[str, Colour]], corner: Corner = "bottom-left") -> Image:
    """A copy of the picture with colour samples and their names, in as many columns as it takes."""
    import cv2

    picture = np.ascontiguousarray(image.copy())
    for index, (text, colour) in enumerate(rows):
        cv2.rectangle(picture, (4, 4 + 14 * index), (14, 14 + 14 * index), colour, -1)
        cv2.putText(picture, text, (18, 14 + 14 * index), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return picture
