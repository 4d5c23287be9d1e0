"""Pooled heads: one vector per image."""

from __future__ import annotations

import torch
from torch import nn

from nddr_deploy.errors import ConfigError
from nddr_deploy.network.heads.base import Head
from nddr_deploy.network.initial import initialise
from nddr_deploy.network.stage import scaled


class Classifier(Head):
    """The classifier of VGG and AlexNet: average to a fixed grid, then 4096 - 4096 - C fully connected.

    Keys are torchvision's of VGG (`classifier.0`, `.3`, `.6`).

    Args:
        width: factor on the 4096 hidden units.
        grid: the side of the grid: 7 for VGG, 6 for AlexNet.
        dropout: share of the hidden units left out in training.
    """

    output = "pooled"

    def __init__(
        self, channels_in: int, channels_out: int, *, width: float = 1.0, grid: int = 7, dropout: float = 0.5
    ) -> None:
        super().__init__()
        hidden = scaled(4096, width)
        self.avgpool = nn.AdaptiveAvgPool2d(grid)
        self.classifier = nn.Sequential(
            nn.Linear(channels_in * grid * grid, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, channels_out),
        )
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.classifier(self.avgpool(x).flatten(1))
        return out


class PooledLinear(Head):
    """The global mean, then one fully connected layer: ResNet's classifier.

    Args:
        dropout: share of the means left out in training.
        map_side: the only height and width of the last map that it takes, for networks whose pooling has a fixed size
            (7: images of 193 to 224 pixels at output stride 32); None takes any.
    """

    output = "pooled"

    def __init__(
        self, channels_in: int, channels_out: int, *, dropout: float = 0.0, map_side: int | None = None
    ) -> None:
        super().__init__()
        if map_side is not None and (type(map_side) is not int or map_side < 1):
            raise ConfigError(f"pooled_head_options.map_side: expected a number of pixels from 1; got {map_side!r}.")
        self.map_side = map_side
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels_in, channels_out)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(self.dropout(x.mean(dim=(2, 3))))
        return out
