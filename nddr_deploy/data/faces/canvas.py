"""Smooth shapes on a picture. Coordinates: x right, y down, origin in the middle, the shorter side is 3 units long."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nddr_deploy.data.faces.traits import Colour

UNITS = 3.0
FINE = 4  # bits of sub-pixel position
Points = npt.NDArray[np.float64]
CIRCLE = np.stack([np.cos(np.linspace(0, 2 * math.pi, 48)), np.sin(np.linspace(0, 2 * math.pi, 48))], axis=1)


class Canvas:
    """Draws at a multiple of the final size; `finished` averages it down.

    Args:
        size_hw: height and width of the result in pixels.
        back: colour of the background.
    """

    def __init__(self, size_hw: tuple[int, int], back: Colour) -> None:
        self.size_hw = size_hw
        self.factor = max(2, math.ceil(160 / min(size_hw)))
        height, width = (side * self.factor for side in size_hw)
        self.image = np.empty((height, width, 3), dtype=np.uint8)
        self.image[:] = np.array(back)
        self.unit = min(height, width) / UNITS
        self.centre = np.array([width / 2, height / 2])
        self.turn = np.eye(2)

    def place(self, shift: Sequence[float], tilt: float, scale: float) -> None:
        """Where the origin of what is drawn next lies, in units from the middle, and how it is turned and scaled."""
        self.turn = scale * np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
        height, width = self.image.shape[:2]
        self.centre = np.array([width / 2, height / 2]) + self.unit * np.asarray(shift)

    def fill(self, points: Points | Sequence[Sequence[float]], colour: Colour) -> None:
        """A closed shape; points (P, 2)."""
        import cv2

        cv2.fillPoly(self.image, [self._pixels(points)], colour, cv2.LINE_AA, FINE)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        self.fill(CIRCLE * (rx, ry) + (x, y), colour)

    def stroke(self, points: Points | Sequence[Sequence[float]], width: float, colour: Colour) -> None:
        """An open line with round ends, `width` units thick."""
        import cv2

        scale = math.sqrt(abs(float(np.linalg.det(self.turn))))
        thickness = max(1, round(width * self.unit * scale))
        cv2.polylines(self.image, [self._pixels(points)], False, colour, thickness, cv2.LINE_AA, FINE)

    def arc(self, x: float, y: float, rx: float, ry: float, start: float, stop: float, width: float, c: Colour) -> None:
        """Part of an ellipse's outline; angles in degrees, clockwise from the right."""
        angles = np.radians(np.linspace(start, stop, 16))
        self.stroke(np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1), width, c)

    def finished(self) -> npt.NDArray[np.uint8]:
        """RGB uint8 (H, W, 3)."""
        import cv2

        height, width = self.size_hw
        return np.asarray(cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def _pixels(self, points: Points | Sequence[Sequence[float]]) -> npt.NDArray[np.int32]:
        positions = np.asarray(points, dtype=np.float64) @ self.turn.T * self.unit + self.centre
        return np.asarray(np.round(positions * (1 << FINE)), dtype=np.int32)
