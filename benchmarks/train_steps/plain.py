"""The loop that one would write by hand for this network and these losses: nothing but PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nddr_deploy.network import build_network
from nddr_deploy.tasks.base import Task
from nddr_deploy.training.config import TrainConfig
from nddr_deploy.training.samples import Batch


class PlainLoop:
    """One step after another on batches that are there; no finite checks, no record, no parts, no processes.

    Args:
        config: the training that it is compared with; it must ask for nothing that this loop has not.
        tasks: of the network.
        weights: of the network to begin with.
        device: where it learns.
    """

    def __init__(
        self, config: TrainConfig, tasks: Sequence[Task], weights: Mapping[str, Tensor], device: torch.device
    ) -> None:
        self.network: nn.Module = build_network(config.network, tasks)
        self.network.load_state_dict(weights)
        self.network.to(device).train()
        if config.channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.model = torch.compile(self.network) if config.compile else self.network
        self.tasks, self.device, self.config = tasks, device, config
        scale = config.preprocess.scale
        self.mean = (torch.tensor(config.preprocess.mean) / scale).reshape(1, 3, 1, 1).to(device)
        self.std = (torch.tensor(config.preprocess.std) / scale).reshape(1, 3, 1, 1).to(device)
        lr, decay = config.optimiser.lr, config.optimiser.weight_decay
        self.optimiser: torch.optim.Optimizer
        if config.optimiser.name == "sgd":
            self.optimiser = torch.optim.SGD(
                self.network.parameters(), lr=lr, momentum=config.optimiser.momentum, weight_decay=decay
            )
        else:
            self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=lr, weight_decay=decay)

    def step(self, batch: Batch) -> None:
        """One optimiser step."""
        self.loss(batch).backward()
        self.optimiser.step()
        self.optimiser.zero_grad()

    def loss(self, batch: Batch) -> Tensor:
        """() float32, on the device."""
        images = batch.images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()
        targets = {name: target.to(self.device, non_blocking=True) for name, target in batch.targets.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.amp == "bf16"):
            raw = self.model((images - self.mean) / self.std)
        loss = torch.zeros((), device=self.device)
        for task in self.tasks:
            kind = self.config.loss.kinds.get(task.name, task.loss)
            factor = self.config.loss.weights.get(task.name, 1.0)
            loss = loss + factor * plain_loss(kind, raw[task.name].float(), targets[task.name])
        return loss


def plain_loss(kind: str, raw: Tensor, target: Tensor) -> Tensor:
    """The mean over labelled pixels or images. raw (N, C, h, w) or (N, C); targets as `data.Sample` has them.

    Masks multiply, where indexing with them would make a GPU wait.
    """
    if kind == "age_cross_entropy":
        return F.cross_entropy(raw, target.round().long())
    if kind == "cross_entropy" and raw.ndim == 2:
        return F.cross_entropy(raw, target.long())
    raw = F.interpolate(raw, target.shape[1:3], mode="bilinear", align_corners=False)
    if kind == "cross_entropy":
        return F.cross_entropy(raw, target.long(), ignore_index=255)
    if kind == "cosine":
        valid = (target != 0).any(dim=-1)
        errors = 1 - F.cosine_similarity(raw, target.permute(0, 3, 1, 2), dim=1)
    elif kind == "binary_cross_entropy":
        valid = target != 255
        errors = F.binary_cross_entropy_with_logits(raw[:, 0], (target == 1).float(), reduction="none")
    else:
        valid = target > 0
        errors = (raw[:, 0] - target).abs()
        if kind == "relative_l1":
            errors = errors / target.clamp(min=1e-3)
    return (errors * valid).sum() / valid.sum()
