"""From measurements to the figures of the report."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from nddr_deploy.benchmark.report import AllCores, EndToEnd, FloorRate, OneThread
from nddr_deploy.benchmark.timing import Percentiles, Spread, ratios

Answers = list[list[dict[str, Any]]]  # [case][round]


def one_thread(answers: Answers, index: int, flops: int, floor: FloorRate | None) -> OneThread:
    times = [[passes["cpu_s"] for passes in case] for case in answers]
    cpu_s = Percentiles.of([time for passes in times[index] for time in passes])
    return OneThread(
        cpu_s=cpu_s,
        speedup=ratios(times[0], times[index]),
        flops_per_s=flops / cpu_s.p50,
        floor_multiple=cpu_s.p50 * floor.flops_per_s / flops if floor else None,
    )


def all_cores(answers: Answers, index: int, batch: int) -> AllCores:
    times = [[passes["wall_s"] for passes in case] for case in answers]
    wall_s = [time for passes in times[index] for time in passes]
    return AllCores(Percentiles.of(wall_s), ratios(times[0], times[index]), batch * len(wall_s) / sum(wall_s))


def end_to_end(answers: Answers, index: int) -> EndToEnd:
    mine = answers[index]
    seconds = [[[stream["wall_s"] / stream["frames"]] for stream in case] for case in answers]
    return EndToEnd(
        frames=mine[0]["frames"],
        frames_per_s=Spread.of([stream["frames"] / stream["wall_s"] for stream in mine]),
        speedup=ratios(seconds[0], seconds[index]),
        busy_s={
            stage: statistics.median(stream["busy_s"][stage] / stream["frames"] for stream in mine)
            for stage in mine[0]["busy_s"]
        },
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
