"""Errors counted in bins, so that medians of many samples can be taken from sums of counts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nddr_deploy.tasks.base import Array

RELATIVE = 0.001


@dataclass(frozen=True)
class ErrorBins:
    """Bins of errors from 0 to `most`: as wide as a thousandth of the error that they start at, at least `step`.

    Errors are first rounded to whole steps, so a bin holds whole steps and counts of steps can be summed to counts of
    bins. An error above `most` counts as `most`.

    Args:
        step, most: in the unit of the errors.
    """

    step: float
    most: float

    @property
    def steps(self) -> int:
        """How many single steps there are, 0 and `most` among them."""
        return round(self.most / self.step) + 1

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """(B,) the first step of each bin."""
        starts = [0]
        while (following := starts[-1] + max(1, int(starts[-1] * RELATIVE))) < self.steps:
            starts.append(following)
        return np.array(starts)

    @cached_property
    def widths(self) -> npt.NDArray[np.int64]:
        """(B,) steps of each bin."""
        return np.diff(self.starts, append=self.steps)

    def count(self, errors: Array) -> Array:
        """(B,) float64: how many of the errors (N,) lie in each bin."""
        steps = np.rint(np.minimum(errors, self.most) / self.step)
        bins = np.searchsorted(self.starts, steps, side="right") - 1
        return np.bincount(bins, minlength=len(self.starts)).astype(np.float64)

    def merge(self, steps: Array) -> Array:
        """(B,) float64: counts of the bins from counts of every single step, (steps,)."""
        return np.add.reduceat(steps, self.starts).astype(np.float64)

    def median(self, counts: Array) -> float:
        """Of the errors counted (B,), at most one bin's width off; NaN where there are none.

        Inside of a bin errors are taken to lie evenly; in a bin of one step, at that step.
        """
        below = np.cumsum(counts)
        total = int(below[-1])
        if total == 0:
            return float("nan")
        ranks = np.array([(total + 1) // 2, total // 2 + 1])
        bins = np.searchsorted(below, ranks)
        share = (ranks - (below - counts)[bins] - 0.5) / counts[bins]
        steps = self.starts[bins] + (self.widths[bins] * share - 0.5) * (self.widths[bins] > 1)
        return float(steps.mean() * self.step)
