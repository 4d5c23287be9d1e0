"""The loop: rate, forward, losses, backward, step; validate and save now and then; stop when asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn

from nddr_deploy.training.folder import RunFolder
from nddr_deploy.training.loss_trail import LossTrail
from nddr_deploy.training.objective import Objective
from nddr_deploy.training.optimiser import set_rate
from nddr_deploy.training.record import Record
from nddr_deploy.training.samples import Batch
from nddr_deploy.training.state import Training
from nddr_deploy.training.step import gradients
from nddr_deploy.training.stop import StopSignals


@dataclass(frozen=True)
class Intervals:
    """After how many steps each of these happens; all of them happen after the last step too."""

    validate: int
    save: int
    log: int


@dataclass
class Clock:
    """Seconds spent waiting for data, and in all other work of steps; validation and saving are not in them."""

    images: int = 0
    waiting_s: float = 0.0
    working_s: float = 0.0

    @property
    def seconds(self) -> float:
        return self.waiting_s + self.working_s

    def speed(self) -> dict[str, float]:
        """ "images_per_s" over all processes, and the "waiting_share" of this one's time."""
        seconds = max(self.seconds, 1e-9)
        return {"images_per_s": self.images / seconds, "waiting_share": self.waiting_s / seconds}


def run_steps(
    training: Training,
    model: nn.Module,
    objective: Objective,
    to_float: nn.Module,
    batches: Iterator[Batch],
    *,
    steps: int,
    rate: Callable[[int], float],
    parts: int,
    clip_norm: float | None,
    intervals: Intervals,
    validate: Callable[[], bool],
    record: Record,
    folder: RunFolder,
    stop: StopSignals,
) -> Clock:
    """Take the training from where it is to `steps`.

    Args:
        training: its `step` counts on.
        model: `training.network`, wrapped for distributed training.
        to_float: images uint8 (N, H, W, 3) -> float (N, 3, H, W).
        batches: of the steps that are left.
        rate: steps done -> base learning rate of the next one.
        parts: how many each process cuts its batches into.
        clip_norm: see `OptimiserConfig`.
        validate: scores the network and notes whether it is the best so far; called by every process.
        stop: looked at after every step.

    Raises:
        TrainingError: a loss is not a finite number. Files are as after an earlier step; weights, see `LossTrail`.
        NddrError: what a process met when it prepared a batch.
        OtherProcessError: an error that another process raises.
        KeyboardInterrupt: stopped by a signal, after last.pt was saved.
    """
    clock, recent = Clock(), Clock()  # from the first step on, and since the last row of the record
    device, processes = training.accelerator.device, training.processes
    trail = LossTrail(list(objective.losses), device)
    while training.step < steps:
        began = time.monotonic()
        with processes.together():
            batch = next(batches)
        ready = time.monotonic()

        lr = rate(training.step)
        set_rate(training.optimiser, lr)
        batch = batch.to(device)
        losses = gradients(training, model, objective, to_float, batch.images, batch.targets, parts=parts)
        with processes.same():
            trail.add(training.step + 1, losses.total, losses.tasks, losses.penalty)
        training.weighting.step(losses.tasks, losses.valid > 0)
        if clip_norm is not None:
            training.accelerator.clip_grad_norm_(model.parameters(), clip_norm)
        training.optimiser.step()
        training.optimiser.zero_grad()
        training.step += 1
        if training.average is not None:
            training.average.update(training.step)

        stopping = training.step < steps and processes.any(stop.received is not None)
        log, check, save = (
            _due(training.step, every, steps) for every in (intervals.log, intervals.validate, intervals.save)
        )
        with processes.same():
            seen = trail.take(everything=stopping or log or check or save)
        ended = time.monotonic()
        for each in (clock, recent):
            each.images += len(batch.images) * processes.count
            each.waiting_s += ready - began
            each.working_s += ended - ready

        for step, values in seen:
            record.train(step, values)
        if log:
            record.row(training.step, lr, training.weighting.named_factors(), recent.speed())
            recent = Clock()
        if check and validate():
            training.save(folder.best, resumable=False)
        if stopping or save:
            training.save(folder.last)
        if stopping:
            record.say(
                f"Stopped after step {training.step} of {steps}; {folder.last} holds its state. Go on with --resume."
            )
            raise KeyboardInterrupt
    return clock


def _due(step: int, every: int, steps: int) -> bool:
    return step == steps or step % every == 0
