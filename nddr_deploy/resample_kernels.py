"""The loops of `resample`, compiled by numba on their first use and kept on disk.

All form a pixel by the same operations in the same order, so that `argmax_rows`, `argmax_cells` and the argmax of
`bilinear` agree to the last bit. numba neither fuses nor reorders them without `fastmath`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """Compile on first use. numba keeps the result in `__pycache__`, or where that is read-only in `NUMBA_CACHE_DIR` or the
    user's cache; where nothing can be written it raises, and we compile in every process instead.
    """
    try:
        kernel: Kernel = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        kernel = numba.njit(nogil=True)(function)
    return kernel


@compiled
def bilinear(planes, y0, y1, ty, x0, x1, tx, result):  # type: ignore[no-untyped-def]
    for channel in range(planes.shape[0]):
        for y in range(len(y0)):
            upper, lower, output = planes[channel, y0[y]], planes[channel, y1[y]], result[channel, y]
            below = ty[y]
            above = np.float32(1) - below
            for x in range(len(x0)):
                right = tx[x]
                left = np.float32(1) - right
                output[x] = (upper[x0[x]] * (above * left) + upper[x1[x]] * (above * right)) + (
                    lower[x0[x]] * (below * left) + lower[x1[x]] * (below * right)
                )


@compiled
def argmax_rows(planes, y0, y1, ty, x0, x1, tx, labels):  # type: ignore[no-untyped-def]
    """Row by row, every class at every pixel: for few pixels per source cell."""
    width = len(x0)
    best = np.empty(width, dtype=np.float32)
    winner = np.empty(width, dtype=np.int32)
    for y in range(len(y0)):
        best[:] = -np.inf
        winner[:] = 0
        below = ty[y]
        above = np.float32(1) - below
        for label in range(planes.shape[0]):
            upper, lower = planes[label, y0[y]], planes[label, y1[y]]
            for x in range(width):
                right = tx[x]
                left = np.float32(1) - right
                value = (upper[x0[x]] * (above * left) + upper[x1[x]] * (above * right)) + (
                    lower[x0[x]] * (below * left) + lower[x1[x]] * (below * right)
                )
                wins = value > best[x]
                best[x] = value if wins else best[x]
                winner[x] = label if wins else winner[x]
        for x in range(width):
            labels[y, x] = winner[x]


@compiled
def argmax_cells(scores, y0, y1, ty, x0, x1, tx, row_runs, column_runs, slack, labels):  # type: ignore[no-untyped-def]
    """Cell by cell, only the classes that can win there: for many pixels per source cell. scores: (h, w, C)."""
    classes = scores.shape[2]
    largest = np.empty(classes, dtype=np.float32)
    candidates = np.empty(classes, dtype=np.int32)
    area = np.max(np.diff(row_runs)) * np.max(np.diff(column_runs))
    weights = np.empty((4, area), dtype=np.float32)
    best = np.empty(area, dtype=np.float32)
    winner = np.empty(area, dtype=np.int32)
    for run_y in range(len(row_runs) - 1):
        top, bottom = row_runs[run_y], row_runs[run_y + 1]
        for run_x in range(len(column_runs) - 1):
            start, end = column_runs[run_x], column_runs[run_x + 1]
            a, b = scores[y0[top], x0[start]], scores[y0[top], x1[start]]
            c, d = scores[y1[top], x0[start]], scores[y1[top], x1[start]]
            best_smallest = np.float32(-np.inf)
            for label in range(classes):
                largest[label] = max(max(a[label], b[label]), max(c[label], d[label]))
                best_smallest = max(best_smallest, min(min(a[label], b[label]), min(c[label], d[label])))
            count = 0
            for label in range(classes):
                candidates[count] = label
                count += not largest[label] < best_smallest - slack
            if count == 1:
                labels[top:bottom, start:end] = candidates[0]
                continue
            pixel = 0
            for y in range(top, bottom):
                below = ty[y]
                above = np.float32(1) - below
                for x in range(start, end):
                    right = tx[x]
                    left = np.float32(1) - right
                    weights[0, pixel] = above * left
                    weights[1, pixel] = above * right
                    weights[2, pixel] = below * left
                    weights[3, pixel] = below * right
                    pixel += 1
            best[:pixel] = -np.inf
            winner[:pixel] = candidates[0]
            for index in range(count):
                label = candidates[index]
                for p in range(pixel):
                    value = (a[label] * weights[0, p] + b[label] * weights[1, p]) + (
                        c[label] * weights[2, p] + d[label] * weights[3, p]
                    )
                    wins = value > best[p]
                    best[p] = value if wins else best[p]
                    winner[p] = label if wins else winner[p]
            pixel = 0
            for y in range(top, bottom):
                for x in range(start, end):
                    labels[y, x] = winner[pixel]
                    pixel += 1


@compiled
def unit_vectors(planes, result):  # type: ignore[no-untyped-def]
    for y in range(planes.shape[1]):
        for x in range(planes.shape[2]):
            u, v, w = planes[0, y, x], planes[1, y, x], planes[2, y, x]
            length = np.sqrt(u * u + v * v + w * w)
            if length == 0:
                w, length = np.float32(-1), np.float32(1)
            result[y, x, 0] = u / length
            result[y, x, 1] = v / length
            result[y, x, 2] = w / length
