"""The tasks' losses of one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.network import Resize
from nddr_deploy.resize import Convention
from nddr_deploy.tasks.base import Task
from nddr_deploy.training.losses import LOSSES, reduce_target


class Objective(nn.Module):
    """Raw outputs and targets -> one loss per task, not yet weighted.

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

    def forward(self, raw: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Task name -> () float32 loss.

        Shapes:
            raw: (N, C, h, w) or (N, C); targets: as `data.Sample` describes one, with N in front.
        """
        losses = {}
        for name, loss in self.losses.items():
            output, target = raw[name].float(), targets[name]
            if name in self.dense and output.shape[2:] != target.shape[1:3]:
                if self.at == "full":
                    output = self.resize(output, (target.shape[1], target.shape[2]))
                else:
                    target = reduce_target(target, (output.shape[2], output.shape[3]), self.convention)
            losses[name] = loss(output, target)
        return losses
