"""What a benchmark found, as values. Seconds and bytes here; milliseconds and megabytes only where people read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nddr_deploy.benchmark.timing import Percentiles, Spread


@dataclass(frozen=True)
class OneThread:
    """A case on one thread, by the processor time its process used.

    Attributes:
        cpu_s: of a pass.
        speedup: over the first case: ratio of the medians of each round.
        flops_per_s: rate at the median.
        floor_multiple: the median over the time that the machine's best kernel of that precision would take; None where
            no kernel of that precision was measured.
    """

    cpu_s: Percentiles
    speedup: Spread
    flops_per_s: float
    floor_multiple: float | None


@dataclass(frozen=True)
class AllCores:
    """A case on all cores, by the clock.

    Attributes:
        wall_s: of a pass.
        speedup: over the first case: ratio of the medians of each round.
        images_per_s: images over time, all rounds together.
    """

    wall_s: Percentiles
    speedup: Spread
    images_per_s: float


@dataclass(frozen=True)
class EndToEnd:
    """A case on real input: frames decoded, fitted, inferred, brought back to their own size.

    Attributes:
        frames: of one round.
        frames_per_s: over rounds.
        speedup: over the first case.
        busy_s: stage -> seconds that it worked per frame, median over rounds; stages overlap.
    """

    frames: int
    frames_per_s: Spread
    speedup: Spread
    busy_s: Mapping[str, float]


@dataclass(frozen=True)
class Row:
    """One case.

    Attributes:
        label: runtime and precision, the realised one.
        memory_bytes: the largest resident memory on all cores, less that of a bare process.
        difference: largest difference of an output from the first case's, as a fraction of that output's range.
    """

    label: str
    backend: str
    precision: str
    one_thread: OneThread
    all_cores: AllCores
    memory_bytes: int
    difference: float
    end_to_end: EndToEnd | None = None


@dataclass(frozen=True)
class FloorRate:
    """The best kernel of a precision on one core."""

    flops_per_s: float
    backend: str
    kernel: str


@dataclass(frozen=True)
class BenchmarkReport:
    """Everything of one run.

    Attributes:
        model: what was measured: file name, network, image size, batch, floating-point operations of a pass.
        machine, versions: what it was measured on.
        rounds, seconds_per_case, threads: how; `threads` is what "all cores" means.
        rows: in the order of measurement; the first is what the others are compared with.
        floor: precision -> the best kernel.
        not_run: case or kernel -> why.
        input: kind and name of what end to end was measured with; None where it was not.
    """

    model: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    rounds: int
    seconds_per_case: float
    threads: int
    rows: tuple[Row, ...]
    floor: Mapping[str, FloorRate]
    not_run: Mapping[str, str] = field(default_factory=dict)
    input: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"format": "nddr-deploy-benchmark/1", **asdict(self)}
