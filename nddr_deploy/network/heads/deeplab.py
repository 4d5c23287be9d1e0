"""Dense heads made of a few convolutions: Deeplab's two, and a single 1x1."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from nddr_deploy.network.heads.base import Head
from nddr_deploy.network.initial import initialise
from nddr_deploy.network.pools import last_pools
from nddr_deploy.network.stage import scaled


class LargeFov(Head):
    """Deeplab's large field of view: fc6 (3x3, dilated by 12), fc7 (1x1), fc8 (1x1 with bias).

    Args:
        width: factor on the 1024 channels of fc6 and fc7.
        batchnorm: conv -> BN -> ReLU in fc6 and fc7; without: conv with bias -> ReLU.
        dropout: share of fc6's and fc7's outputs left out in training.
        dilation: of fc6.
        pools: begin with Deeplab-VGG-16's last two poolings, for a backbone that is cut after its convolutions.

    Source: Chen et al., Deeplab, 2015, and the code released with NDDR-CNN (BatchNorm eps 1e-3).
    """

    output = "dense"

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        width: float = 1.0,
        batchnorm: bool = True,
        dropout: float = 0.5,
        dilation: int = 12,
        pools: bool = False,
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.05,
    ) -> None:
        super().__init__()
        hidden = scaled(1024, width)

        def norm() -> nn.Module:
            return nn.BatchNorm2d(hidden, eps=bn_eps, momentum=bn_momentum) if batchnorm else nn.Identity()

        self.pools = nn.Sequential(OrderedDict(last_pools() if pools else {}))
        self.fc6 = nn.Conv2d(channels_in, hidden, 3, padding=dilation, dilation=dilation, bias=not batchnorm)
        self.bn6 = norm()
        self.fc7 = nn.Conv2d(hidden, hidden, 1, bias=not batchnorm)
        self.bn7 = norm()
        self.fc8 = nn.Conv2d(hidden, channels_out, 1)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        initialise(self)
        initialise(self.fc8, deviation=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout(self.relu(self.bn6(self.fc6(self.pools(x)))))
        x = self.dropout(self.relu(self.bn7(self.fc7(x))))
        out: torch.Tensor = self.fc8(x)
        return out


class DeeplabV2(Head):
    """The sum of four dilated 3x3 convolutions with bias.

    Args:
        rates: their dilations.

    Source: Chen et al., Deeplab v2, 2018: its ResNet-101.
    """

    output = "dense"

    def __init__(self, channels_in: int, channels_out: int, *, rates: Sequence[int] = (6, 12, 18, 24)) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(channels_in, channels_out, 3, padding=rate, dilation=rate) for rate in rates
        )
        initialise(self, deviation=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.branches[0](x)
        for branch in self.branches[1:]:
            total = total + branch(x)
        return total


class Conv1x1(Head):
    """One 1x1 convolution with bias: the lightest dense head."""

    output = "dense"

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 1)
        initialise(self, deviation=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x)
        return out
