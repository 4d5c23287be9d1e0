"""How long a pass takes: several engines in one process, taking turns, so that a busy moment hits them all."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nddr_deploy.card.measured import Latency, LatencyCase, MachineFacts
from nddr_deploy.card.probes import batch_size
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.base import Engine
from nddr_deploy.engines.machine import default_threads, describe_machine
from nddr_deploy.errors import ConfigError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.preprocess import Image

ROUNDS = 5
ON_GPU = ("torch-cuda", "onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt")


@dataclass(frozen=True)
class Timed:
    """A model file in a runtime.

    Attributes:
        path, backend, precision: as for `open_engine`.
        label: for people; None is precision and backend, as in "INT8, onnxruntime".
    """

    path: str | os.PathLike[str]
    backend: str | None = None
    precision: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class _Turn:
    """Seconds of each pass of one case in one round, by both clocks."""

    wall_s: list[float]
    cpu_s: list[float]


def time_engines(
    cases: Sequence[Timed],
    *,
    threads: int | None = None,
    rounds: int = ROUNDS,
    seconds: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> Latency:
    """Open every case and let them take turns: A B C, A B C, ...; the others are compared with the first.

    On one thread of a CPU the process's own time is taken, which other work on the machine hardly changes; else the
    clock's. On several threads `nddr-bench` is the better judge: it gives each case a process, where no other one's
    threads still spin.

    Args:
        cases: FP32 first.
        threads: of a pass; None is `machine.default_threads()`.
        rounds: how often they take turns; at least one pass is measured in each, after one that is not.
        seconds: of measuring, per case, all rounds together.
        progress: told after each turn, with 1; there are `rounds` turns a case.

    Raises:
        ConfigError: no case, or a setting that is not above zero.
        ModelFileError, UnsupportedError, MissingPackageError: a case cannot be opened here.
    """
    if not cases or rounds < 1 or not seconds > 0:
        raise ConfigError(f"There must be a case, a round and some time; got {len(cases)}, {rounds} and {seconds} s.")
    threads = default_threads() if threads is None else threads
    with ExitStack() as stack:
        engines = [
            stack.enter_context(open_engine(case.path, case.backend, threads=threads, precision=case.precision))
            for case in cases
        ]
        images = [_images(engine) for engine in engines]
        turns: list[list[_Turn]] = [[] for _ in cases]
        for _ in range(rounds):
            for engine, batch, found in zip(engines, images, turns, strict=True):
                found.append(_take_turn(engine, batch, seconds / rounds))
                if progress is not None:
                    progress(1)
        on_cpu = not any(engine.backend in ON_GPU for engine in engines)
        clock = "processor" if threads == 1 and on_cpu else "wall"
        return Latency.model_validate(
            {
                "machine": MachineFacts.of(describe_machine()),
                "threads": threads,
                "clock": clock,
                "rounds": rounds,
                "images": images[0].shape,
                "cases": tuple(
                    _case(case, engine, _seconds(found, clock), _seconds(turns[0], clock))
                    for case, engine, found in zip(cases, engines, turns, strict=True)
                ),
            }
        )


def _images(engine: Engine) -> Image:
    count = batch_size(engine.manifest)
    return np.ascontiguousarray(probe_images(engine.manifest.size_hw, count))


def _take_turn(engine: Engine, images: Image, seconds: float) -> _Turn:
    engine.infer(images)
    turn = _Turn([], [])
    end = time.perf_counter() + seconds
    while not turn.wall_s or time.perf_counter() < end:
        wall, cpu = time.perf_counter(), time.process_time()
        engine.infer(images)
        turn.wall_s.append(time.perf_counter() - wall)
        turn.cpu_s.append(time.process_time() - cpu)
    return turn


def _seconds(turns: Sequence[_Turn], clock: str) -> list[list[float]]:
    """Round by round."""
    return [turn.cpu_s if clock == "processor" else turn.wall_s for turn in turns]


def _case(case: Timed, engine: Engine, found: list[list[float]], first: list[list[float]]) -> LatencyCase:
    medians = [statistics.median(turn) for turn in found]
    ratios = [statistics.median(turn) / median for turn, median in zip(first, medians, strict=True)]
    every = [value for turn in found for value in turn]
    return LatencyCase.model_validate(
        {
            "label": case.label or f"{engine.precision.upper().replace('+', ' + ')}, {engine.backend}",
            "file": Path(case.path).name,
            "backend": engine.backend,
            "precision": engine.precision,
            "device": engine.device,
            "passes": len(every),
            "median_ms": 1000 * statistics.median(every),
            "low_ms": 1000 * min(medians),
            "high_ms": 1000 * max(medians),
            "speedup": statistics.median(ratios),
            "speedup_low": min(ratios),
            "speedup_high": max(ratios),
        }
    )
