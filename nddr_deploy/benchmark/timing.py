"""What is measured, and how measurements become the figures that are quoted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Passes:
    """The passes of one case in one round.

    Attributes:
        wall_s: seconds on the clock, one entry a pass.
        cpu_s: seconds of processor time that the whole process used, all its threads together, one entry a pass.
    """

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]


@dataclass(frozen=True)
class Spread:
    """A figure with what it varied by: over rounds for ratios."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Percentiles:
    """Of a pass, in seconds. With fewer than 100 passes p99 is close to the slowest."""

    p50: float
    p90: float
    p99: float
    passes: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles:
        p50, p90, p99 = np.percentile(values, (50, 90, 99))
        return cls(float(p50), float(p90), float(p99), len(values))


def time_passes(run: Callable[[], object], seconds: float) -> Passes:
    """One pass that is not measured, then passes until `seconds` are over; at least one."""
    run()
    wall_s: list[float] = []
    cpu_s: list[float] = []
    end = time.perf_counter() + seconds
    while not wall_s or time.perf_counter() < end:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        wall_s.append(time.perf_counter() - wall)
        cpu_s.append(time.process_time() - cpu)
    return Passes(tuple(wall_s), tuple(cpu_s))


def ratios(base: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> Spread:
    """How many times faster `other` is: the ratio of the medians of each round, both measured within that round.

    A machine that is busy for a while slows both cases of a round, so that their ratio holds.
    """
    return Spread.of(
        [statistics.median(left) / statistics.median(right) for left, right in zip(base, other, strict=True)]
    )
