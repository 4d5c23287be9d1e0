"""Decoded video frames -> upright RGB in square pixels, as a player displays them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import Self

from nddr_deploy.preprocess import Image

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lay a picture down: swap the axes, then mirror.

    Attributes:
        transpose: rows become columns.
        mirror_x, mirror_y: left-right and upside-down, after `transpose`.
    """

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def from_display_matrix(cls, matrix: bytes) -> Self:
        """From the nine 32-bit numbers (a b u; c d v; x y w) that ISO 14496-12 gives a track.

        A stored point (p, q) is displayed at (a p + c q, b p + d q). Angles between quarter turns go to the nearest.
        """
        a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def apply(self, image: Image) -> Image:
        if self.transpose:
            image = image.transpose(1, 0, 2)
        if self.mirror_x:
            image = image[:, ::-1]
        if self.mirror_y:
            image = image[::-1]
        return np.ascontiguousarray(image)

    def size_hw(self, stored_hw: tuple[int, int]) -> tuple[int, int]:
        return (stored_hw[1], stored_hw[0]) if self.transpose else stored_hw


class Upright:
    """Brings every frame of a stream to the form of the first one: upright, square pixels, RGB.

    Args:
        stream: where the pixels' shape is written.
        first: the first decoded frame; it carries the rotation.

    Attributes:
        stored_hw: upright size in stored pixels.
        sample_aspect: width by height of an upright stored pixel; 1 for square pixels.
        size_hw: upright displayed size: what `rgb` returns.
        resized: frames that had another size than the first and were scaled to it.
    """

    def __init__(self, stream: VideoStream, first: VideoFrame) -> None:
        self._coded_hw = first.height, first.width
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        aspect = aspect if aspect and aspect > 0 else Fraction(1)
        displayed_hw = first.height, max(round(first.width * aspect), 1)
        self._orientation = _orientation(first)
        self._displayed_hw = displayed_hw
        self.stored_hw = self._orientation.size_hw(self._coded_hw)
        self.size_hw = self._orientation.size_hw(displayed_hw)
        self.sample_aspect = 1 / aspect if self._orientation.transpose else aspect
        self.resized = 0

    def rgb(self, frame: VideoFrame) -> Image:
        """RGB uint8 (H, W, 3) of `size_hw`."""
        self.resized += (frame.height, frame.width) != self._coded_hw
        height, width = self._displayed_hw
        pixels = frame.to_ndarray(format="rgb24", height=height, width=width, interpolation="BICUBIC")
        return self._orientation.apply(np.asarray(pixels, dtype=np.uint8))


def _orientation(frame: VideoFrame) -> Orientation:
    side_data: Any = frame.side_data  # PyAV's own annotation is wrong
    matrix = side_data.get("DISPLAYMATRIX")
    return Orientation() if matrix is None else Orientation.from_display_matrix(bytes(matrix))
