"""Bilinear resizing in the three conventions that networks are trained with.

`half_pixel`: pixel centres at half coordinates (PyTorch `align_corners=False`, cv2).
`align_corners`: the corners' centres coincide (PyTorch `align_corners=True`, Caffe).
`asymmetric`: no shift (TensorFlow 1's `resize_bilinear`).

Shape letters: h, w source; H, W output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from nddr_deploy.errors import unknown_choice

Convention = Literal["half_pixel", "align_corners", "asymmetric"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)


def source_coordinates(
    positions: npt.NDArray[np.float64], size_in: int, size_out: int, convention: Convention
) -> npt.NDArray[np.float64]:
    """Where output positions (not necessarily whole) read their source, clamped to 0 .. size_in - 1."""
    if convention == "half_pixel":
        source = (positions + 0.5) * (size_in / size_out) - 0.5
    elif convention == "align_corners":
        source = positions * ((size_in - 1) / max(size_out - 1, 1))
    elif convention == "asymmetric":
        source = positions * (size_in / size_out)
    else:
        raise unknown_choice("resize", convention, CONVENTIONS)
    return np.clip(source, 0.0, size_in - 1.0)


@dataclass(frozen=True)
class Grid:
    """Where each output pixel reads its source: one fractional source coordinate per output row and column.

    Attributes:
        source_hw: (h, w), the size of the map that is read.
        rows: (H,) float64 in 0 .. h - 1.
        columns: (W,) float64 in 0 .. w - 1.
    """

    source_hw: tuple[int, int]
    rows: npt.NDArray[np.float64]
    columns: npt.NDArray[np.float64]

    @classmethod
    def between(cls, source_hw: tuple[int, int], size_hw: tuple[int, int], convention: Convention) -> Grid:
        """The plain resize of a (h, w) map to (H, W)."""
        rows, columns = (
            source_coordinates(np.arange(size_out, dtype=np.float64), size_in, size_out, convention)
            for size_in, size_out in zip(source_hw, size_hw, strict=True)
        )
        return cls(source_hw, rows, columns)

    @property
    def size_hw(self) -> tuple[int, int]:
        return len(self.rows), len(self.columns)
