"""From measurements to the figures of the report."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from nddr_deploy.benchmark.bottleneck import of_pass, of_run
from nddr_deploy.benchmark.report import AllCores, EndToEnd, FloorRate, OneThread, OnGpu
from nddr_deploy.benchmark.timing import Percentiles, Spread, ratios

Answers = list[list[dict[str, Any]]]  # [case][round]


def one_thread(answers: Answers, index: int, flops: int | None, floor: FloorRate | None) -> OneThread:
    times = [[passes["cpu_s"] for passes in case] for case in answers]
    cpu_s = Percentiles.of([time for passes in times[index] for time in passes])
    return OneThread(
        cpu_s=cpu_s,
        speedup=ratios(times[0], times[index]),
        flops_per_s=flops / cpu_s.p50 if flops else None,
        floor_multiple=cpu_s.p50 * floor.flops_per_s / flops if floor and flops else None,
    )


def all_cores(answers: Answers, index: int, batch: int) -> AllCores:
    times = [[passes["wall_s"] for passes in case] for case in answers]
    wall_s = [time for passes in times[index] for time in passes]
    return AllCores(Percentiles.of(wall_s), ratios(times[0], times[index]), batch * len(wall_s) / sum(wall_s))


def on_gpu(passes: Answers, streams: Answers, index: int, flops: int | None, floor: FloorRate | None) -> OnGpu:
    """Of one case among those on a GPU.

    Args:
        passes: `timing.GpuPasses` of every such case and round.
        streams: `timing.Streamed` of every such case and round.
        index: the case.
        flops: of a pass.
        floor: of its precision.
    """
    mine = {name: [time for round_ in passes[index] for time in round_[name]] for name in passes[index][0]}
    compute = [[round_["compute_s"] for round_ in case] for case in passes]
    together = [[_with_copies(round_) for round_ in case] for case in passes]
    compute_s = Percentiles.of(mine["compute_s"])
    per_image = [[[stream["wall_s"] / stream["images"]] for stream in case] for case in streams]
    return OnGpu(
        compute_s=compute_s,
        with_copies_s=Percentiles.of([time for round_ in together[index] for time in round_]),
        enqueue_s=Percentiles.of(mine["enqueue_s"]),
        h2d_s=Percentiles.of(mine["h2d_s"]),
        d2h_s=Percentiles.of(mine["d2h_s"]),
        speedup=ratios(compute[0], compute[index]),
        with_copies_speedup=ratios(together[0], together[index]),
        flops_per_s=flops / compute_s.p50 if flops else None,
        floor_multiple=compute_s.p50 * floor.flops_per_s / flops if floor and flops else None,
        images_per_s=Spread.of([1 / seconds for [seconds] in per_image[index]]),
        streamed_speedup=ratios(per_image[0], per_image[index]),
        bottleneck=of_pass(**{name: statistics.median(times) for name, times in mine.items()}),
    )


def _with_copies(round_: dict[str, Any]) -> list[float]:
    return [sum(parts) for parts in zip(round_["h2d_s"], round_["compute_s"], round_["d2h_s"], strict=True)]


def end_to_end(answers: Answers, index: int) -> EndToEnd:
    mine = answers[index]
    busy_s = {
        stage: statistics.median(stream["busy_s"][stage] / stream["frames"] for stream in mine)
        for stage in mine[0]["busy_s"]
    }
    seconds = [[[stream["wall_s"] / stream["frames"]] for stream in case] for case in answers]
    return EndToEnd(
        frames=mine[0]["frames"],
        frames_per_s=Spread.of([stream["frames"] / stream["wall_s"] for stream in mine]),
        speedup=ratios(seconds[0], seconds[index]),
        busy_s=busy_s,
        bottleneck=of_run(busy_s),
    )


def difference(first: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest over the heads: of the range for numbers, of the pixels for labels."""
    found = [0.0]
    for name, expected in first.items():
        if np.issubdtype(expected.dtype, np.integer):
            found.append(float((other[name] != expected).mean()))
        else:
            found.append(float(np.abs(other[name] - expected).max() / max(np.ptp(expected), np.finfo(np.float32).tiny)))
    return max(found)
