"""The two loops against each other: short rounds in turns, on the same batches, in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import torch

from nddr_deploy.training.samples import Batch
from nddr_deploy.training.step import gradients
from train_steps.loop import Loop
from train_steps.plain import PlainLoop


@dataclass(frozen=True)
class Moment:
    """Seconds, of the wall clock and of this process's threads together."""

    wall: float
    processor: float

    @classmethod
    def now(cls, device: torch.device) -> Moment:
        """After everything that a GPU was given is done."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return cls(time.perf_counter(), time.process_time())

    def since(self, before: Moment) -> Moment:
        return Moment(self.wall - before.wall, self.processor - before.processor)


def compare(loop: Loop, plain: PlainLoop, batches: Sequence[Batch], *, rounds: int, steps: int) -> dict[str, Any]:
    """Images per second of both, and their ratio; the first round of each warms up and does not count.

    nddr-train's loop runs once from end to end. It asks for batches, and in between, when its round is over, the plain
    loop has its turn: nothing in the measured loop knows of being measured.
    """
    ours: list[Moment] = []
    plains: list[Moment] = []
    stream, others = cycle(batches), cycle(batches)

    def take_turns() -> Iterator[Batch]:
        for number in range(rounds + 1):
            if number % 2:  # who begins is whoever ended
                plains.append(_plain_round(plain, islice(others, steps), loop.device))
            begin = Moment.now(loop.device)
            yield from islice(stream, steps)
            ours.append(Moment.now(loop.device).since(begin))
            if not number % 2:
                plains.append(_plain_round(plain, islice(others, steps), loop.device))
        yield batches[0]  # the last step of a run saves: it belongs to no round

    loop.run(take_turns(), steps=(rounds + 1) * steps + 1)
    images = steps * len(batches[0].images)
    return {
        "rounds": rounds,
        "steps_per_round": steps,
        "images_per_s": {
            "nddr-train": _rates(ours[1:], images),
            "plain": _rates(plains[1:], images),
        },
        "ratio": {  # above 1: nddr-train is faster
            clock: spread(
                [getattr(b, clock) / getattr(a, clock) for a, b in zip(ours[1:], plains[1:], strict=True)], digits=4
            )
            for clock in ("processor", "wall")
        },
        "ratio_of_all_time": {
            clock: round(sum(getattr(b, clock) for b in plains[1:]) / sum(getattr(a, clock) for a in ours[1:]), 4)
            for clock in ("processor", "wall")
        },
    }


def losses_of_both(loop: Loop, plain: PlainLoop, batch: Batch) -> tuple[float, float]:
    """The loss of a batch in each, before the first step: the same, or they do not do the same work."""
    batch = batch.to(loop.device)
    ours = gradients(loop.training, loop.model, loop.objective, loop.to_float, batch.images, batch.targets)
    loop.training.optimiser.zero_grad()
    return float(ours.total), float(plain.loss(batch).detach())


def _plain_round(plain: PlainLoop, batches: Iterator[Batch], device: torch.device) -> Moment:
    begin = Moment.now(device)
    for batch in batches:
        plain.step(batch)
    return Moment.now(device).since(begin)


def _rates(times: Sequence[Moment], images: int) -> dict[str, Any]:
    return {
        "processor": spread([images / each.processor for each in times]),
        "wall": spread([images / each.wall for each in times]),
    }


def spread(values: Sequence[float], *, digits: int = 2) -> dict[str, float]:
    """Median, quartiles and range."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    named = {"median": median, "quarter": low, "three_quarters": high, "least": min(values), "most": max(values)}
    return {name: round(value, digits) for name, value in named.items()}
