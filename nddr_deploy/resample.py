"""Exact bilinear resampling on a CPU: of maps, of vectors, and of class scores straight to labels.

The arithmetic is float32: each output pixel is the sum of its four neighbours times their weights. All three
conventions and letterboxes are a `Grid`. numba and the kernels are imported when the first map is resampled.

Shape letters: C channels; h, w source; H, W output.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nddr_deploy.errors import InputError
from nddr_deploy.resize import Grid

Array = npt.NDArray[Any]

# The float32 sum of four weighted corners is off by at most 8 roundings of the largest score; two sums are compared.
ROUNDING = 2 * 8 * 2.0**-24
# With fewer output pixels per source cell than this, ruling classes out costs more than it saves.
PIXELS_PER_CELL_TO_PRUNE = 4


class Taps(NamedTuple):
    """Which two source lines each output line reads: (1 - weight) * source[first] + weight * source[second]."""

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]

    @classmethod
    def of(cls, coordinates: npt.NDArray[np.float64], size: int) -> Taps:
        """Of fractional source coordinates in 0 .. size - 1. A coordinate on the last line reads it with weight 1.

        Raises:
            InputError: no coordinate, one outside, or NaN: the kernels do not check where they read.
        """
        if not (coordinates.size and coordinates.min() >= 0 and coordinates.max() <= size - 1):
            raise InputError(f"A grid's coordinates must lie in 0 to {size - 1}; got {coordinates}.")
        first = np.clip(np.floor(coordinates).astype(np.int64), 0, max(size - 2, 0))
        return cls(first, np.minimum(first + 1, size - 1), (coordinates - first).astype(np.float32))

    def runs(self) -> npt.NDArray[np.int64]:
        """Where the source pair changes: run i is the output lines [i] .. [i + 1] - 1."""
        changes = np.flatnonzero(np.diff(self.first)) + 1
        return np.concatenate([[0], changes, [len(self.first)]]).astype(np.int64)


def bilinear(values: Array, grid: Grid | None) -> npt.NDArray[np.float32]:
    """Bilinear values at the grid's points.

    Args:
        values: float (C, h, w) or (h, w).
        grid: of source size (h, w); None returns a copy.

    Returns:
        float32 (C, H, W) or (H, W). NaN and infinity spread to every pixel that has them as one of its four neighbours.

    Raises:
        InputError: the grid reads another size.
    """
    maps = np.ascontiguousarray(values, dtype=np.float32)
    if grid is None or _is_identity(grid, maps.shape[-2:]):
        return maps.copy() if maps is values else maps
    from nddr_deploy import resample_kernels as kernels

    rows, columns = _taps(grid)
    planes = maps if maps.ndim == 3 else maps[None]
    result = np.empty((len(planes), len(rows.first), len(columns.first)), dtype=np.float32)
    kernels.bilinear(planes, *rows, *columns, result)
    return result if maps.ndim == 3 else result[0]


def argmax_bilinear(scores: Array, grid: Grid | None) -> npt.NDArray[np.uint8]:
    """`bilinear(scores, grid).argmax(axis=0)`, an order of magnitude faster and the same to the last label.

    Between four neighbouring source pixels, a class that is below another one at all four is below it everywhere. So in
    each such cell the classes below the strongest are left out. Mostly it alone is left.

    Args:
        scores: float (C, h, w), C <= 256.
        grid: of source size (h, w); None takes the argmax at (h, w).

    Returns:
        uint8 (H, W). Of equal scores the lowest class wins. A class whose score is NaN does not; where all are, 0.

    Raises:
        InputError: the grid reads another size, or there are too many classes.
    """
    scores = np.ascontiguousarray(scores, dtype=np.float32)
    classes, height, width = scores.shape
    if classes > 256:
        raise InputError(f"Labels are uint8, so at most 256 classes can be told apart; got scores of {classes}.")
    if grid is None:
        grid = Grid.between((height, width), (height, width), "asymmetric")
    _check_source(grid, (height, width))
    from nddr_deploy import resample_kernels as kernels

    rows, columns = _taps(grid)
    labels = np.empty(grid.size_hw, dtype=np.uint8)
    if labels.size < PIXELS_PER_CELL_TO_PRUNE * height * width:
        kernels.argmax_rows(scores, *rows, *columns, labels)
        return labels
    # Not finite where a score is not: then nothing is ruled out.
    slack = np.float32(ROUNDING) * np.maximum(scores.max(), -scores.min())
    by_pixel = np.ascontiguousarray(scores.transpose(1, 2, 0))  # (h, w, C)
    runs = rows.runs(), columns.runs()
    area = int(np.diff(runs[0]).max() * np.diff(runs[1]).max())
    kernels.argmax_cells(by_pixel, *rows, *columns, *runs, slack, area, labels)
    return labels


def nearest(values: Array, grid: Grid) -> Array:
    """The value of the nearest source pixel, (h, w, ...) -> (H, W, ...), any type; halfway takes the later one."""
    if _is_identity(grid, values.shape[:2]):
        return values.copy()
    rows, columns = (
        np.minimum(np.floor(coordinates + 0.5).astype(np.int64), size - 1)
        for coordinates, size in zip((grid.rows, grid.columns), grid.source_hw, strict=True)
    )
    return values.take(rows, axis=0).take(columns, axis=1)


def unit_vectors(planes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Vectors (3, H, W) of any length -> (H, W, 3) of length 1. A zero vector becomes (0, 0, -1); NaN stays NaN."""
    from nddr_deploy import resample_kernels as kernels

    result = np.empty((*planes.shape[1:], 3), dtype=np.float32)
    kernels.unit_vectors(planes, result)
    return result


def colour_normals(planes: npt.NDArray[np.float32], signs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The normals n whose colours (n + 1) / 2 have these directions: (3, H, W) of any length -> (H, W, 3) of length 1.

    Negative components, which no colour has, count as 0. With u the direction and S the sum of its components,
    n = 2 k u - 1 has length 1 for k = (S +- sqrt(S^2 - 2)) / 2. The larger root is exact for every normal whose
    components add up to -1 or more; the others have the colour direction of one of these, which is what comes out.
    No normal has a colour of S^2 < 2: there k = S / 2, and n is brought to length 1.

    Args:
        signs: (3,) of 1 and -1, by which the normals' components are multiplied at the end.

    Returns:
        Without a direction (no component above 0) (0, 0, -1), whatever the signs. NaN stays NaN.
    """
    from nddr_deploy import resample_kernels as kernels

    result = np.empty((*planes.shape[1:], 3), dtype=np.float32)
    kernels.colour_normals(planes, signs, result)
    return result


def _is_identity(grid: Grid, size_hw: tuple[int, ...]) -> bool:
    """Whether the grid reads every pixel of a map of this size just where it lies."""
    _check_source(grid, size_hw)
    return all(
        len(coordinates) == size and np.array_equal(coordinates, np.arange(size))
        for coordinates, size in zip((grid.rows, grid.columns), size_hw, strict=True)
    )


def _taps(grid: Grid) -> tuple[Taps, Taps]:
    return Taps.of(grid.rows, grid.source_hw[0]), Taps.of(grid.columns, grid.source_hw[1])


def _check_source(grid: Grid, size_hw: tuple[int, ...]) -> None:
    if tuple(grid.source_hw) != tuple(size_hw):
        raise InputError(f"The grid reads a map of {tuple(grid.source_hw)} pixels; the map has {tuple(size_hw)}.")
