"""The loops of `resample`, compiled by numba on their first use and kept on disk.

All form a pixel by the same operations in the same order, so that `argmax_rows`, `argmax_cells` and the argmax of
`bilinear` agree to the last bit: without `fastmath`, numba neither fuses nor reorders them. Plain loops instead of
slices and array functions compile four times as fast.

An axis comes as three arrays: the first and the second source line of each output line, and the weight of the second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.uint8]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """Compile on first use.

    numba keeps the machine code in `NUMBA_CACHE_DIR` if that is set, else in `__pycache__`, else in the user's cache
    folder. Where none of them can be written it raises RuntimeError, and each process has to compile anew.
    """
    try:
        kernel: Kernel = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        kernel = numba.njit(nogil=True)(function)
    return kernel


@compiled
def bilinear(
    planes: Floats, y0: Indices, y1: Indices, ty: Floats, x0: Indices, x1: Indices, tx: Floats, result: Floats
) -> None:
    """planes (C, h, w) -> result (C, H, W)."""
    one = np.float32(1)
    for channel in range(planes.shape[0]):
        for y in range(len(y0)):
            upper, lower = y0[y], y1[y]
            below = ty[y]
            above = one - below
            for x in range(len(x0)):
                left, right = x0[x], x1[x]
                east = tx[x]
                west = one - east
                result[channel, y, x] = (
                    planes[channel, upper, left] * (above * west) + planes[channel, upper, right] * (above * east)
                ) + (planes[channel, lower, left] * (below * west) + planes[channel, lower, right] * (below * east))


@compiled
def argmax_rows(
    planes: Floats, y0: Indices, y1: Indices, ty: Floats, x0: Indices, x1: Indices, tx: Floats, labels: Labels
) -> None:
    """planes (C, h, w) -> labels (H, W). Every class at every pixel: for few pixels per source cell."""
    one = np.float32(1)
    width = len(x0)
    best = np.empty(width, dtype=np.float32)
    winner = np.empty(width, dtype=np.int32)
    for y in range(len(y0)):
        for x in range(width):
            best[x] = -np.inf
            winner[x] = 0
        upper, lower = y0[y], y1[y]
        below = ty[y]
        above = one - below
        for label in range(planes.shape[0]):
            for x in range(width):
                left, right = x0[x], x1[x]
                east = tx[x]
                west = one - east
                value = (planes[label, upper, left] * (above * west) + planes[label, upper, right] * (above * east)) + (
                    planes[label, lower, left] * (below * west) + planes[label, lower, right] * (below * east)
                )
                wins = value > best[x]
                best[x] = value if wins else best[x]
                winner[x] = label if wins else winner[x]
        for x in range(width):
            labels[y, x] = winner[x]


@compiled
def argmax_cells(
    scores: Floats,
    y0: Indices,
    y1: Indices,
    ty: Floats,
    x0: Indices,
    x1: Indices,
    tx: Floats,
    row_runs: Indices,
    column_runs: Indices,
    slack: np.float32,
    area: int,
    labels: Labels,
) -> None:
    """scores (h, w, C) -> labels (H, W). Cell by cell, only the classes that can win there.

    The strongest class is the one with the best smallest corner.

    Args:
        row_runs, column_runs: where the next cell begins, in output lines.
        slack: how far below the strongest class's corners a class may stay and still be computed, for rounding.
        area: output pixels of the largest cell.
    """
    one = np.float32(1)
    classes = scores.shape[2]
    smallest = np.empty(classes, dtype=np.float32)
    loses = np.empty(classes, dtype=np.bool_)
    candidates = np.empty(classes, dtype=np.int32)
    weights = np.empty((4, area), dtype=np.float32)
    best = np.empty(area, dtype=np.float32)
    winner = np.empty(area, dtype=np.int32)
    for run_y in range(len(row_runs) - 1):
        top, bottom = row_runs[run_y], row_runs[run_y + 1]
        upper, lower = y0[top], y1[top]
        for run_x in range(len(column_runs) - 1):
            start, end = column_runs[run_x], column_runs[run_x + 1]
            left, right = x0[start], x1[start]
            for label in range(classes):
                a, b = scores[upper, left, label], scores[upper, right, label]
                c, d = scores[lower, left, label], scores[lower, right, label]
                smallest[label] = min(min(a, b), min(c, d))
            strongest = 0
            for label in range(classes):
                if smallest[label] > smallest[strongest]:
                    strongest = label
            a, b = scores[upper, left, strongest] - slack, scores[upper, right, strongest] - slack
            c, d = scores[lower, left, strongest] - slack, scores[lower, right, strongest] - slack
            for label in range(classes):
                loses[label] = (
                    (scores[upper, left, label] < a)
                    & (scores[upper, right, label] < b)
                    & (scores[lower, left, label] < c)
                    & (scores[lower, right, label] < d)
                )
            count = 0
            for label in range(classes):
                candidates[count] = label
                count += not loses[label]
            if count == 1:
                for y in range(top, bottom):
                    for x in range(start, end):
                        labels[y, x] = candidates[0]
                continue

            pixels = 0
            for y in range(top, bottom):
                below = ty[y]
                above = one - below
                for x in range(start, end):
                    east = tx[x]
                    west = one - east
                    weights[0, pixels] = above * west
                    weights[1, pixels] = above * east
                    weights[2, pixels] = below * west
                    weights[3, pixels] = below * east
                    best[pixels] = -np.inf
                    winner[pixels] = candidates[0]
                    pixels += 1
            for index in range(0, count, 2):  # two at a time, for half the loads; an odd last one meets itself
                label, other = candidates[index], candidates[min(index + 1, count - 1)]
                a, b = scores[upper, left, label], scores[upper, right, label]
                c, d = scores[lower, left, label], scores[lower, right, label]
                e, f = scores[upper, left, other], scores[upper, right, other]
                g, h = scores[lower, left, other], scores[lower, right, other]
                for pixel in range(pixels):
                    nw, ne, sw, se = weights[0, pixel], weights[1, pixel], weights[2, pixel], weights[3, pixel]
                    most, who = best[pixel], winner[pixel]
                    value = (a * nw + b * ne) + (c * sw + d * se)
                    wins = value > most
                    most, who = value if wins else most, label if wins else who
                    value = (e * nw + f * ne) + (g * sw + h * se)
                    wins = value > most
                    best[pixel], winner[pixel] = value if wins else most, other if wins else who
            pixel = 0
            for y in range(top, bottom):
                for x in range(start, end):
                    labels[y, x] = winner[pixel]
                    pixel += 1


@compiled
def unit_vectors(planes: Floats, result: Floats) -> None:
    """planes (3, H, W) -> result (H, W, 3). In float64, where no square of a float32 overflows or vanishes."""
    for y in range(planes.shape[1]):
        for x in range(planes.shape[2]):
            u, v, w = np.float64(planes[0, y, x]), np.float64(planes[1, y, x]), np.float64(planes[2, y, x])
            length = np.sqrt(u * u + v * v + w * w)
            if length == 0:
                w, length = np.float64(-1), np.float64(1)
            result[y, x, 0] = u / length
            result[y, x, 1] = v / length
            result[y, x, 2] = w / length


@compiled
def colour_normals(planes: Floats, signs: Floats, result: Floats) -> None:
    """planes (3, H, W) -> result (H, W, 3), each component times its sign. In float64, as `unit_vectors`."""
    for y in range(planes.shape[1]):
        for x in range(planes.shape[2]):
            u, v, w = np.float64(planes[0, y, x]), np.float64(planes[1, y, x]), np.float64(planes[2, y, x])
            u = np.float64(0) if u < 0 else u  # NaN stays
            v = np.float64(0) if v < 0 else v
            w = np.float64(0) if w < 0 else w
            length = np.sqrt(u * u + v * v + w * w)
            if length == 0:
                result[y, x, 0] = 0
                result[y, x, 1] = 0
                result[y, x, 2] = -1
                continue
            total = (u + v + w) / length
            twice = total + np.sqrt(max(total * total - 2, np.float64(0)))  # 2 k of n = 2 k u - 1
            u, v, w = twice * u / length - 1, twice * v / length - 1, twice * w / length - 1
            length = np.sqrt(u * u + v * v + w * w)
            result[y, x, 0] = signs[0] * u / length
            result[y, x, 1] = signs[1] * v / length
            result[y, x, 2] = signs[2] * w / length
