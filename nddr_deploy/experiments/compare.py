"""How far apart two rows of a table are, seed by seed, and whether that is more than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Student's t, two-sided 95 %, for 1, 2, ... degrees of freedom; the last one stands for more (it is a little strict).
T95 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Difference:
    """A row less another one, over the seeds that both have: their networks share start, order and variations.

    Attributes:
        values: one per shared seed.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds (n - 1); NaN for fewer than two."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan

    @property
    def beyond_chance(self) -> bool | None:
        """Whether the 95 % interval of the mean leaves 0 out (paired t-test); None where one seed says nothing."""
        count = len(self.values)
        if count < 2:
            return None
        return abs(self.mean) > T95[min(count - 1, len(T95)) - 1] * self.deviation / math.sqrt(count)


def difference(row: Mapping[int, float], other: Mapping[int, float]) -> Difference:
    """Args: seed -> value, of both."""
    return Difference(tuple(row[seed] - other[seed] for seed in sorted(row.keys() & other.keys())))
