"""Narrow networks that look trained, for the tests of export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nddr_deploy.checkpoint import Checkpoint, save_checkpoint
from nddr_deploy.network import MultiTaskNetwork, NetworkConfig, build_network
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.tasks import Age, Classification, Depth, Normals, Segmentation, Task

SIZE = (131, 163)  # AlexNet's raw map: 3 x 4
CLASSES = ("wall", "floor", "chair", "table", "lamp")
SEGMENTATION = Segmentation(classes=CLASSES)
NORMALS, DEPTH, AGE = Normals(), Depth(), Age(classes=12)
GENDER = Classification(name="gender", classes=("female", "male"))
DENSE: tuple[Task, ...] = (SEGMENTATION, NORMALS, DEPTH)

BACKBONES: dict[str, dict[str, Any]] = {
    "vgg16": {"width": 0.0625, "batchnorm": True},
    "vgg16_deeplab": {"width": 0.0625},
    "resnet18": {"width": 0.0625},
    "resnet50": {"width": 0.03, "output_stride": 8},
    "resnet101": {"width": 0.03, "output_stride": 8},
    "alexnet": {"width": 0.0625},
}
FUSIONS: dict[str, dict[str, Any]] = {
    "nddr bn-conv": {"order": "bn-conv"},
    "nddr conv-bn-relu": {"order": "conv-bn-relu", "bias": True},
    "nddr conv-relu-bn": {"order": "conv-relu-bn"},
    "nddr conv-bn": {"order": "conv-bn"},
    "nddr conv": {"order": "conv", "bias": True},
    "cross_stitch": {"per_channel": True},
    "sluice": {},
    "none": {},
    "shared": {},
}
SHORTCUTS = ("none", "per_task", "shared")


def trained_looking(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random statistics and weights for every BatchNorm (0 and 1 would prove nothing) and every mixing matrix."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor, scale: float) -> torch.Tensor:
        return scale * torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, _BatchNorm):
                layer.running_mean.copy_(normal(layer.running_mean, 1.0))
                layer.running_var.copy_(0.3 + 2.7 * torch.rand(layer.running_var.shape, generator=generator))
                if layer.affine:
                    layer.weight.copy_(1 + normal(layer.weight, 0.5))
                    layer.weight[::3] *= -1  # turns a maximum into a minimum
                    layer.weight[1::5] *= 1e-3  # nearly switched off
                    layer.bias.copy_(normal(layer.bias, 0.5))
        for name, weight in network.named_parameters():
            if name.endswith((".mix", ".beta")):
                weight.add_(normal(weight, 0.2))
    return network.eval()


def config(backbone: str = "alexnet", fusion: str = "nddr bn-conv", **settings: Any) -> NetworkConfig:
    settings.setdefault("head", "conv1x1")
    return NetworkConfig(
        backbone=backbone,
        backbone_options=BACKBONES[backbone],
        fusion=fusion.split()[0],
        fusion_options=FUSIONS[fusion],
        **settings,
    )


def network_of(settings: NetworkConfig, tasks: Sequence[Task] = DENSE[:2], seed: int = 0) -> MultiTaskNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(settings, tasks)
    trained_looking(network, seed)
    return network


def save(
    path: Path,
    settings: NetworkConfig | None = None,
    tasks: Sequence[Task] = DENSE[:2],
    *,
    size_hw: tuple[int, int] = SIZE,
    preprocess: Preprocess | None = None,
    seed: int = 0,
) -> Path:
    """A checkpoint file of a narrow, trained-looking network."""
    settings = settings or config()
    weights = network_of(settings, tasks, seed).state_dict()
    save_checkpoint(path, Checkpoint(settings, tuple(tasks), preprocess or Preprocess(), size_hw, weights))
    return path
