"""Where a step's time goes: everything that the loop calls is timed from outside, in rounds of their own."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import cycle, islice
from typing import Any
from unittest import mock

import torch

from nddr_deploy.training.loss_trail import LossTrail
from nddr_deploy.training.samples import Batch
from train_steps.loop import Loop
from train_steps.rounds import Moment


class Stopwatch:
    """Adds up the time inside of functions, by stage. A GPU is waited for at both ends, so nothing overlaps."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.processor: dict[str, float] = defaultdict(float)
        self.wall: dict[str, float] = defaultdict(float)
        self._inside = False

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            if self._inside:  # of another stage, whose time this is
                return function(*args, **options)
            self._inside, begin = True, Moment.now(self.device)
            try:
                return function(*args, **options)
            finally:
                self._inside, spent = False, Moment.now(self.device).since(begin)
                self.processor[stage] += spent.processor
                self.wall[stage] += spent.wall

        return run

    def table(self, whole: Moment, steps: int) -> dict[str, dict[str, float]]:
        """Milliseconds per step by stage, of the `whole` that so many steps took."""
        rest = Moment(whole.wall - sum(self.wall.values()), whole.processor - sum(self.processor.values()))
        rows = {stage: Moment(self.wall[stage], self.processor[stage]) for stage in self.wall}
        return {
            stage: {
                "processor_ms": round(spent.processor * 1000 / steps, 3),
                "wall_ms": round(spent.wall * 1000 / steps, 3),
            }
            for stage, spent in {**rows, "rest": rest, "step": whole}.items()
        }


def stages(loop: Loop, batches: Sequence[Batch], *, steps: int) -> dict[str, Any]:
    """Milliseconds of processor and of wall time per step and stage; "rest" is the loop itself.

    On a GPU the stages cannot overlap here, so their sum is more than a step takes.
    """
    watch = Stopwatch(loop.device)
    training, record = loop.training, loop.options["record"]
    places: list[tuple[str, Any, str]] = [
        ("to device", Batch, "to"),
        ("to float", loop.to_float, "forward"),
        ("forward", loop.model, "forward"),
        ("losses", loop.objective, "targets_at"),
        ("losses", loop.objective, "valid"),
        ("losses", loop.objective, "forward"),
        ("losses", training.weighting, "total"),
        ("losses", training.network, "penalties"),
        ("backward", training.accelerator, "backward"),
        ("optimiser", training.optimiser, "step"),
        ("optimiser", training.optimiser, "zero_grad"),
        ("finite checks, record", LossTrail, "add"),
        ("finite checks, record", LossTrail, "take"),
        ("finite checks, record", record, "train"),
        ("finite checks, record", record, "row"),
    ]
    if training.average is not None:
        places.append(("average", training.average, "update"))
    tables: list[dict[str, Any]] = []

    def noted() -> Iterator[Batch]:
        begin = Moment.now(loop.device)
        yield from islice(cycle(batches), steps)
        tables.append(watch.table(Moment.now(loop.device).since(begin), steps))
        yield batches[0]  # the last step of a run saves: it is in no table

    with ExitStack() as stack:
        for stage, owner, name in places:
            stack.enter_context(mock.patch.object(owner, name, watch.timed(stage, getattr(owner, name))))
        loop.run(noted(), steps + 1)
    return tables[0]


def apart(loop: Loop) -> dict[str, float]:
    """Seconds of what happens between steps: a validation, and saving the state. Wall time, the better of two."""
    training, folder = loop.training, loop.options["folder"]
    work = {"validation": loop.options["validate"], "saving": lambda: training.save(folder.last)}
    found = {}
    for name, function in work.items():
        times = []
        for _ in range(2):
            begin = time.perf_counter()
            function()
            times.append(time.perf_counter() - begin)
        found[name] = round(min(times), 4)
    return found
