"""Small networks and tasks that several test files of this folder use."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nddr_deploy.network import MultiTaskNetwork, NetworkConfig, build_network
from nddr_deploy.tasks import Age, Classification, Depth, Normals, Segmentation, Task

SEGMENTATION, NORMALS, DEPTH = Segmentation(classes=("wall", "floor", "sofa", "lamp", "door")), Normals(), Depth()
AGE, GENDER = Age(), Classification("gender", classes=("female", "male"))
DENSE: tuple[Task, ...] = (SEGMENTATION, NORMALS, DEPTH)
NARROW = 1 / 16


def narrow(backbone: str, fusion: str, tasks: tuple[Task, ...] = DENSE[:2], **settings: Any) -> MultiTaskNetwork:
    """A network with 4 to 32 channels per stage, in evaluation mode, as if trained."""
    settings.setdefault("head", "conv1x1")
    settings["backbone_options"] = {"width": NARROW, **settings.get("backbone_options", {})}
    torch.manual_seed(0)
    network = build_network(NetworkConfig(backbone=backbone, fusion=fusion, **settings), tasks)
    return trained_looking(network)


def trained_looking(module: Any, seed: int = 1) -> Any:
    """BatchNorm statistics, weights and biases away from 0 and 1, which would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for name, low, high in (("weight", 0.7, 1.3), ("bias", -0.3, 0.5), ("running_mean", -0.2, 0.2)):
                getattr(layer, name).data.uniform_(low, high, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
        elif isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
            layer.bias.data.uniform_(-0.2, 0.2, generator=generator)
    return module.eval()


def images(height: int, width: int, batch: int = 2, seed: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))
