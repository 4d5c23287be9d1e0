"""DeeplabV3's head: atrous spatial pyramid pooling. Keys are torchvision's (`0.convs`, `0.project`, `1`, `2`, `4`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nddr_deploy.network.heads.base import Head
from nddr_deploy.network.initial import initialise
from nddr_deploy.network.stage import scaled


class PyramidPooling(nn.Module):
    """A 1x1 convolution, dilated 3x3 ones and the global mean, concatenated and projected.

    Shapes:
        (N, channels_in, h, w) float -> (N, channels, h, w) float.
    """

    def __init__(
        self, channels_in: int, channels: int, rates: Sequence[int], dropout: float, bn_eps: float, bn_momentum: float
    ) -> None:
        super().__init__()

        def conv_bn_relu(source: int, rate: int | None) -> list[nn.Module]:
            conv = (
                nn.Conv2d(source, channels, 1, bias=False)
                if rate is None
                else nn.Conv2d(source, channels, 3, padding=rate, dilation=rate, bias=False)
            )
            return [conv, nn.BatchNorm2d(channels, eps=bn_eps, momentum=bn_momentum), nn.ReLU(inplace=True)]

        branches = [nn.Sequential(*conv_bn_relu(channels_in, rate)) for rate in (None, *rates)]
        pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_bn_relu(channels_in, None))
        self.convs = nn.ModuleList([*branches, pooling])
        self.project = nn.Sequential(*conv_bn_relu(len(self.convs) * channels, None), nn.Dropout(dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *branches, pooling = self.convs
        mean = pooling(x).expand(-1, -1, x.shape[2], x.shape[3])
        out: torch.Tensor = self.project(torch.cat([*(branch(x) for branch in branches), mean], dim=1))
        return out


class ASPP(Head):
    """Pyramid pooling, a 3x3 convolution, and a 1x1 one with bias.

    Training needs two images or more in a batch: the branch with the global mean has one value per image, and
    BatchNorm cannot normalise a single value.

    Args:
        width: factor on the 256 channels.
        rates: dilations of the three 3x3 branches: 12, 24, 36 at output stride 8, half of that at 16.
        dropout: share of the projection left out in training.

    Source: Chen et al., Deeplab v3, 2017, as torchvision and public NDDR code build it.
    """

    output = "dense"

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        width: float = 1.0,
        rates: Sequence[int] = (12, 24, 36),
        dropout: float = 0.5,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        hidden = scaled(256, width)
        layers = [
            PyramidPooling(channels_in, hidden, rates, dropout, bn_eps, bn_momentum),
            nn.Conv2d(hidden, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden, eps=bn_eps, momentum=bn_momentum),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels_out, 1),
        ]
        for number, layer in enumerate(layers):
            self.add_module(str(number), layer)
        initialise(self)
        initialise(layers[-1], deviation=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            x = layer(x)
        return x
