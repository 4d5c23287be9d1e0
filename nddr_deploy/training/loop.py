"""The loop: rate, forward, losses, backward, step; validate and save now and then; stop when asked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nddr_deploy.errors import TrainingError
from nddr_deploy.training.folder import RunFolder
from nddr_deploy.training.objective import Objective
from nddr_deploy.training.optimiser import set_rate
from nddr_deploy.training.record import Record
from nddr_deploy.training.samples import Batch
from nddr_deploy.training.state import Training
from nddr_deploy.training.stop import StopSignals


@dataclass(frozen=True)
class Intervals:
    """After how many steps each of these happens; all of them happen after the last step too."""

    validate: int
    save: int
    log: int


@dataclass
class Clock:
    """Seconds spent waiting for data, and in all other work of a step."""

    waiting_s: float = 0.0
    working_s: float = 0.0

    @property
    def seconds(self) -> float:
        return self.waiting_s + self.working_s

    @property
    def waiting_share(self) -> float:
        return self.waiting_s / max(self.seconds, 1e-9)


def run_steps(
    training: Training,
    model: nn.Module,
    objective: Objective,
    to_float: nn.Module,
    batches: Iterator[Batch],
    *,
    steps: int,
    rate: Callable[[int], float],
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
        clip_norm: see `OptimiserConfig`.
        validate: scores the network and notes whether it is the best so far; called by every process.
        stop: looked at after every step.

    Raises:
        TrainingError: a loss is not a finite number. Weights and files are as after the step before.
        KeyboardInterrupt: stopped by a signal, after last.pt was saved.
    """
    clock = Clock()
    device = training.accelerator.device
    while training.step < steps:
        began = time.monotonic()
        batch = next(batches)
        ready = time.monotonic()

        lr = rate(training.step)
        set_rate(training.optimiser, lr)
        images = to_float(batch.images.to(device, non_blocking=True))
        targets = {name: target.to(device, non_blocking=True) for name, target in batch.targets.items()}
        losses = _step(training, model, objective, images, targets, clip_norm)
        training.step += 1
        clock.waiting_s += ready - began
        clock.working_s += time.monotonic() - ready

        record.train(training.step, lr, losses, due=_due(training.step, intervals.log, steps))
        if _due(training.step, intervals.validate, steps) and validate():
            training.save(folder.best, resumable=False)
        stopping = training.step < steps and _agreed(stop, training)
        if stopping or _due(training.step, intervals.save, steps):
            training.save(folder.last)
        if stopping:
            record.say(
                f"Stopped after step {training.step} of {steps}; {folder.last} holds its state. Go on with --resume."
            )
            raise KeyboardInterrupt
    return clock


def _step(
    training: Training,
    model: nn.Module,
    objective: Objective,
    images: Tensor,
    targets: Mapping[str, Tensor],
    clip_norm: float | None,
) -> dict[str, float]:
    """One optimiser step. Returns the tasks' losses on this process's images, "penalty", and "loss", their sum."""
    losses = objective(model(images), targets)
    penalty = sum(training.network.penalties().values(), torch.zeros((), device=images.device))
    total = sum((objective.weights[name] * loss for name, loss in losses.items()), penalty)

    named = {"loss": total, **losses, "penalty": penalty}
    values = dict(zip(named, torch.stack(list(named.values())).tolist(), strict=True))
    for name in (*losses, "penalty"):
        if not math.isfinite(values[name]):
            raise TrainingError(
                f"The loss of {name} is {values[name]} in step {training.step + 1}. Lower optimiser.lr, raise "
                "schedule.warmup_steps, or set optimiser.clip_norm; last.pt holds the last saved state."
            )

    training.accelerator.backward(total)
    if clip_norm is not None:
        training.accelerator.clip_grad_norm_(model.parameters(), clip_norm)
    training.optimiser.step()
    training.optimiser.zero_grad()
    return values


def _due(step: int, every: int, steps: int) -> bool:
    return step == steps or step % every == 0


def _agreed(stop: StopSignals, training: Training) -> bool:
    """Whether any process was asked to stop: all must leave after the same step."""
    asked = stop.received is not None
    if training.accelerator.num_processes == 1:
        return asked
    votes = training.accelerator.reduce(torch.tensor(float(asked), device=training.accelerator.device), reduction="sum")
    return bool(votes.item() > 0)
