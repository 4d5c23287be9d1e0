"""nddr-train's own loop, made by nddr-train itself, and run for as long as a measurement wants."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar
from unittest import mock

import torch
from rich.console import Console
from torch import nn

from nddr_deploy.training import run
from nddr_deploy.training.config import TrainConfig
from nddr_deploy.training.loop import Clock, run_steps
from nddr_deploy.training.objective import Objective
from nddr_deploy.training.samples import Batch
from nddr_deploy.training.state import Training

Result = TypeVar("Result")


@dataclass(frozen=True)
class Loop:
    """What `train` hands to `run_steps`.

    Attributes:
        training, model, objective, to_float: see `run_steps`.
        loader: the batches of the configuration, in order; they are prepared when they are asked for, or by workers.
        options: the other arguments of `run_steps`.
    """

    training: Training
    model: nn.Module
    objective: Objective
    to_float: nn.Module
    loader: Iterator[Batch]
    options: dict[str, Any]

    @property
    def device(self) -> torch.device:
        return self.training.accelerator.device

    def run(self, batches: Iterator[Batch], steps: int) -> Clock:
        """Train for some steps more; afterwards a state is saved, outside of the clock."""
        options = {**self.options, "steps": self.training.step + steps, "validate": lambda: False}
        return run_steps(self.training, self.model, self.objective, self.to_float, batches, **options)


def in_training(config: TrainConfig, work: Callable[[Loop], Result]) -> Result:
    """Do `work` where nddr-train would begin its first step."""
    results: list[Result] = []

    def measured(
        training: Training, model: nn.Module, objective: Objective, to_float: nn.Module, loader: Any, **options: Any
    ) -> Clock:
        results.append(work(Loop(training, model, objective, to_float, loader, options)))
        return Clock()

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(run, "run_steps", measured))
        run.train(config, overwrite=True, console=Console(file=io.StringIO()))
    return results[0]
