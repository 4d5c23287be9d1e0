"""A network of your own code, exported by: nddr-export weights.pth --from-module own_network:load --size 96x128"""

from pathlib import Path

import torch
from torch import nn

from nddr_deploy.importers.module import StagedNetwork
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.tasks import Depth, Segmentation

TASKS = (Segmentation("labels", classes=("floor", "wall", "rest")), Depth("depth"))


class Exchange(nn.Module):
    """A fusion: {task: features} in, {task: features} out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleDict({task.name: nn.Conv2d(2 * channels, channels, 1) for task in TASKS})

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        both = torch.cat([features[task.name] for task in TASKS], dim=1)
        return {name: reduce(both).relu() for name, reduce in self.reduce.items()}


def stage(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


def load(path: Path) -> StagedNetwork:
    stages = [nn.ModuleDict({task.name: stage(*widths) for task in TASKS}) for widths in ((3, 16), (16, 32))]
    fusions = [Exchange(16), Exchange(32)]
    heads = nn.ModuleDict({task.name: nn.Conv2d(32, task.channels, 1) for task in TASKS})
    everything = nn.ModuleDict({"stages": nn.ModuleList(stages), "fusions": nn.ModuleList(fusions), "heads": heads})
    everything.load_state_dict(torch.load(path, weights_only=True))
    return StagedNetwork(TASKS, stages, fusions, dict(heads.items()), Preprocess(), resize="half_pixel")
