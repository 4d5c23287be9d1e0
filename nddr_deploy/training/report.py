"""What a training says of itself before its first step and after its last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nddr_deploy.evaluate.score import Scores
from nddr_deploy.tasks.base import Task
from nddr_deploy.training.state import Training


@dataclass(frozen=True)
class TrainReport:
    """How a training ended.

    Attributes:
        checkpoint: the finished model.
        steps, seconds: of this process's part of the training; validation is not in the seconds.
        images_per_s: over all processes.
        waiting_share: of the seconds, spent waiting for data.
        scores: of the validation after the last step.
        best_step: after which the best validation was.
    """

    checkpoint: Path
    steps: int
    seconds: float
    images_per_s: float
    waiting_share: float
    scores: Scores
    best_step: int

    def sentence(self) -> str:
        return (
            f"{self.steps} steps in {self.seconds:.0f} s ({self.images_per_s:.1f} images/s), "
            f"{self.waiting_share:.0%} of it waiting for data; best validation after step {self.best_step}. "
            f"The model is {self.checkpoint}."
        )


def opening(training: Training, tasks: Sequence[Task], learn: int, held_out: int, started: str) -> str:
    """What begins, with how many samples, and where.

    Args:
        learn, held_out: samples to learn from, and to validate on.
        started: where the weights come from; empty where the training was resumed.
    """
    weights = sum(parameter.numel() for parameter in training.network.parameters())
    count, device = training.processes.count, training.accelerator.device
    where = f"{count} x {device.type}" if count > 1 else str(device)
    names = ", ".join(task.name for task in tasks)
    sizes = f"{weights:,} weights, {learn} samples, {held_out} to validate"
    return f"Training {names} ({sizes}) on {where}. " + (started or f"Resumed after step {training.step}.")
