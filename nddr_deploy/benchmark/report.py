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
        flops_per_s: rate at the median; None where the arithmetic is not known.
        floor_multiple: the median over the time that the machine's best kernel of that precision would take; None where
            no kernel of that precision was measured.
    """

    cpu_s: Percentiles
    speedup: Spread
    flops_per_s: float | None
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
class OnGpu:
    """A case on a GPU. All times are of a pass.

    Attributes:
        compute_s: the GPU's own work.
        with_copies_s: images to the GPU, its work, results back.
        enqueue_s, h2d_s, d2h_s: the host's time to start the work; the two copies.
        speedup, with_copies_speedup: over the first case on the GPU: ratios of the medians of each round.
        flops_per_s: rate of the GPU's work at the median; None where the arithmetic is not known.
        floor_multiple: the median over the time that the fastest matrix product of that precision would take.
        images_per_s, streamed_speedup: of `Engine.stream`, where passes may overlap; over rounds.
        bottleneck: what a pass waits for: "compute", "copies" or "enqueue".
    """

    compute_s: Percentiles
    with_copies_s: Percentiles
    enqueue_s: Percentiles
    h2d_s: Percentiles
    d2h_s: Percentiles
    speedup: Spread
    with_copies_speedup: Spread
    flops_per_s: float | None
    floor_multiple: float | None
    images_per_s: Spread
    streamed_speedup: Spread
    bottleneck: str


@dataclass(frozen=True)
class EndToEnd:
    """A case on real input: frames decoded, fitted, inferred, brought back to their own size.

    Attributes:
        frames: of one round.
        frames_per_s: over rounds.
        speedup: over the first case.
        busy_s: stage -> seconds that it worked per frame, median over rounds; stages overlap.
        bottleneck: the stage that the others wait for.
    """

    frames: int
    frames_per_s: Spread
    speedup: Spread
    busy_s: Mapping[str, float]
    bottleneck: str


@dataclass(frozen=True)
class Row:
    """One case.

    Attributes:
        label: runtime and precision, the realised one.
        one_thread: None on a GPU.
        memory_bytes: the largest resident memory on all cores, less that of a bare process.
        difference: largest difference of an output from the first case's, as a fraction of that output's range.
        gpu: None on a CPU.
    """

    label: str
    backend: str
    precision: str
    one_thread: OneThread | None
    all_cores: AllCores
    memory_bytes: int
    difference: float
    gpu: OnGpu | None = None
    end_to_end: EndToEnd | None = None


@dataclass(frozen=True)
class FloorRate:
    """The best kernel of a precision, on one core or on the GPU."""

    flops_per_s: float
    backend: str
    kernel: str


@dataclass(frozen=True)
class GpuFloorRates:
    """The best that was measured on the GPU itself, by PyTorch.

    Attributes:
        rates: precision -> the fastest matrix product.
        copies: "h2d", "d2h" (pinned memory) and "d2d" -> bytes per second.
    """

    rates: Mapping[str, FloorRate]
    copies: Mapping[str, float]


@dataclass(frozen=True)
class BenchmarkReport:
    """Everything of one run.

    Attributes:
        model: what was measured: file name, network, image size, batch, floating-point operations of a pass (None
            where only a TensorRT engine was given).
        machine, versions: what it was measured on.
        rounds, seconds_per_case, threads: how; `threads` is what "all cores" means.
        rows: in the order of measurement; the first is what the others are compared with.
        floor: precision -> the best kernel on one core.
        gpu_floor: None without a case on a GPU, or a PyTorch to measure it with.
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
    gpu_floor: GpuFloorRates | None = None
    not_run: Mapping[str, str] = field(default_factory=dict)
    input: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"format": "nddr-deploy-benchmark/1", **asdict(self)}
