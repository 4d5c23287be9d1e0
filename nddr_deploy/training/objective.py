"""The tasks' losses of one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.network import Resize
from nddr_deploy.resize import Convention
from nddr_deploy.tasks.base import Task
from nddr_deploy.training.losses import LOSSES, reduce_target


class Objective(nn.Module):
    """Raw outputs and targets -> each task's loss as a sum over valid pixels or images, not yet weighted.

    >>> targets = objective.targets_at(raw, targets)
    >>> sums, counts = objective(raw, targets), objective.valid(targets)       # of any part of the batch

    Args:
        tasks: of the network.
        weights: task name -> factor of its loss; 1 where a task is not named.
        kinds: task name -> key of `LOSSES`; the task's own `loss` where it is not named.
        at: where dense outputs meet their targets: "full", at the targets' size, or "raw", at the network's resolution.
        resize: the network's convention.

    Raises:
        ConfigError: a weight or a kind for a task that is not trained, an unknown kind, or a weight of 0 or less.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        weights: Mapping[str, float],
        kinds: Mapping[str, str],
        at: Literal["full", "raw"] = "full",
        resize: Convention = "half_pixel",
    ) -> None:
        super().__init__()
        names = [task.name for task in tasks]
        for setting, values in (("loss.weights", weights), ("loss.kinds", kinds)):
            for name in values:
                if name not in names:
                    raise unknown_choice(f"{setting}: task", name, names)
        self.dense = {task.name for task in tasks if task.head == "dense"}
        self.weights = {name: float(weights.get(name, 1.0)) for name in names}
        self.losses = {}
        for task in tasks:
            kind = kinds.get(task.name, task.loss)
            if kind not in LOSSES:
                raise unknown_choice(f"loss.kinds.{task.name}", kind, LOSSES)
            self.losses[task.name] = LOSSES[kind]
        for name, weight in self.weights.items():
            if not 0 < weight < float("inf"):
                raise ConfigError(f"loss.weights.{name}: expected a positive factor; got {weight}.")
        self.at = at
        self.convention = resize
        self.resize = Resize(resize)

    def targets_at(self, raw: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The targets at the size at which they meet outputs of the size of `raw`.

        Shapes:
            raw: (N, C, h, w) or (N, C); targets: as `data.Sample` describes one, with N in front. N may differ.
        """
        meeting = dict(targets)
        if self.at == "raw":
            for name in self.dense:
                size_hw = raw[name].shape[2], raw[name].shape[3]
                if targets[name].shape[1:3] != size_hw:
                    meeting[name] = reduce_target(targets[name], size_hw, self.convention)
        return meeting

    def valid(self, targets: Mapping[str, Tensor]) -> Tensor:
        """(T,) int64: how many pixels or images of each task count. `targets` from `targets_at`."""
        return torch.stack([loss.valid(targets[name]).sum() for name, loss in self.losses.items()])

    def forward(self, raw: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Task name -> () float32, the sum of its loss. `targets` from `targets_at`."""
        sums = {}
        for name, loss in self.losses.items():
            output, target = raw[name].float(), targets[name]
            if name in self.dense and output.shape[2:] != target.shape[1:3]:
                output = self.resize(output, (target.shape[1], target.shape[2]))
            sums[name] = loss.total(output, target)
        return sums
