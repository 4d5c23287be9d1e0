"""What is measured, and how measurements become the figures that are quoted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nddr_deploy.engines.base import Engine, PassTimes
from nddr_deploy.preprocess import Image

FLYING = 6  # batches: more than any engine has in flight, so that at least a few are measured


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
class GpuPasses:
    """The passes of one case on a GPU in one round: `engines.base.PassTimes`, one entry a pass."""

    h2d_s: tuple[float, ...]
    enqueue_s: tuple[float, ...]
    compute_s: tuple[float, ...]
    d2h_s: tuple[float, ...]


@dataclass(frozen=True)
class Streamed:
    """Images that came out of `Engine.stream` in one round, and how long that took."""

    images: int
    wall_s: float


class GpuEngine(Protocol):
    """What engines on a GPU can do besides."""

    def time_pass(self, images: Image) -> PassTimes: ...


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


def time_gpu_passes(engine: GpuEngine, images: Image, seconds: float) -> GpuPasses:
    """Passes that the engine splits itself, until `seconds` are over; at least one. The first is not measured."""
    engine.time_pass(images)
    found: list[PassTimes] = []
    end = time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        found.append(engine.time_pass(images))
    return GpuPasses(
        h2d_s=tuple(times.h2d_s for times in found),
        enqueue_s=tuple(times.enqueue_s for times in found),
        compute_s=tuple(times.compute_s for times in found),
        d2h_s=tuple(times.d2h_s for times in found),
    )


def time_stream(engine: Engine, images: Image, seconds: float) -> Streamed:
    """The same images again and again through `Engine.stream`, until `seconds` are over; at least `FLYING` batches.

    The clock starts with the first result, when the engine has as many batches in flight as it takes.
    """
    results = 0
    begun = ended = 0.0
    end = time.perf_counter() + seconds
    for _ in engine.stream(_again(images, end)):
        ended = time.perf_counter()
        begun = begun or ended
        results += 1
    return Streamed(images=(results - 1) * len(images), wall_s=ended - begun)


def _again(images: Image, end: float) -> Iterator[Image]:
    count = 0
    while count < FLYING or time.perf_counter() < end:
        yield images
        count += 1


def keep_busy(run: Callable[[], object], seconds: float) -> None:
    """Unmeasured passes: a GPU that has slept needs a moment to reach its clock."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        run()


def ratios(base: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> Spread:
    """How many times faster `other` is: the ratio of the medians of each round, both measured within that round.

    A machine that is busy for a while slows both cases of a round, so that their ratio holds.
    """
    return Spread.of(
        [statistics.median(left) / statistics.median(right) for left, right in zip(base, other, strict=True)]
    )
