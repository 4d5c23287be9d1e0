"""One optimiser step: forward and backward over all parts and processes, as if the batch had passed through at once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nddr_deploy.training.objective import Objective
from nddr_deploy.training.state import Training


@dataclass(frozen=True)
class StepLosses:
    """The losses of a whole step, over all its parts and processes; tensors on the device.

    Attributes:
        tasks: (T,) float32, in the order of the objective's; 0 for a task of which nothing is labelled.
        valid: (T,) int64, how many pixels or images of each task are labelled.
        penalty: () float32, the network's own.
        total: () float32, what is minimised.
    """

    tasks: Tensor
    valid: Tensor
    penalty: Tensor
    total: Tensor


def gradients(
    training: Training,
    model: nn.Module,
    objective: Objective,
    to_float: nn.Module,
    images: Tensor,
    targets: Mapping[str, Tensor],
    *,
    parts: int = 1,
) -> StepLosses:
    """Add the gradient of a step's loss to every parameter.

    The sum over a part's valid pixels is divided by the valid pixels of the whole step, so parts and processes with
    more labels weigh more, and together they have the gradient of one big batch.

    Args:
        model: `training.network`, wrapped for distributed training.
        to_float: images uint8 (N, H, W, 3) -> float (N, 3, H, W).
        images, targets: of this process.
        parts: how many the images are cut into, one after the other.
    """
    accelerator, processes = training.accelerator, training.processes
    valid = torch.ones(0)
    seen = torch.zeros(len(objective.losses) + 1, device=images.device)  # total, then tasks; of this process
    penalty = torch.zeros((), device=images.device)
    share = len(images) // parts
    for part in range(parts):
        last = part == parts - 1
        here = slice(part * share, None if last else (part + 1) * share)
        with nullcontext() if last else accelerator.no_sync(model):  # processes add up their gradients once a step
            raw = model(to_float(images[here]))
            if part == 0:  # only now the size of raw maps is known
                targets = objective.targets_at(raw, targets)
                valid = processes.sum(objective.valid(targets))
            sums = objective(raw, {name: target[here] for name, target in targets.items()})
            losses = {name: sums[name] / count for name, count in zip(sums, valid.clamp(min=1), strict=True)}
            total = training.weighting.total(losses)
            seen += torch.stack([total.detach(), *(loss.detach() for loss in losses.values())])
            total = total * processes.count  # distributed training takes the mean of all processes' gradients
            if last:
                penalty = sum(training.network.penalties().values(), penalty)
                total = total + penalty
            accelerator.backward(total)
    seen, penalty = processes.sum(seen), penalty.detach()
    return StepLosses(seen[1:], valid, penalty, seen[0] + penalty)
