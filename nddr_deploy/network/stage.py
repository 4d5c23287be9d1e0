"""A stage: the part of one task's backbone between two fusion layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import nn

from nddr_deploy.errors import ConfigError


class Stage(nn.Sequential):
    """Named layers, run in order. The names are torchvision's, so that its weight files load.

    Attributes:
        channels: of the output.
        stride: the output is about 1/stride of the input's height and width.

    Shapes:
        (N, C, H, W) float -> (N, channels, about H / stride, about W / stride) float.
    """

    def __init__(self, layers: Mapping[str, nn.Module], channels: int, stride: int) -> None:
        super().__init__(OrderedDict(layers))
        self.channels = channels
        self.stride = stride

    def last_convolution(self) -> nn.Conv2d:
        """The convolution whose filters make the output's channels (a residual branch's last; not a projection)."""
        found = [
            layer
            for name, layer in self.named_modules()
            if isinstance(layer, nn.Conv2d) and "downsample" not in name and layer.out_channels == self.channels
        ]
        if not found:
            raise ConfigError(f"A stage with {self.channels} channels has no convolution that makes them.")
        return found[-1]


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a multiple of 4, at least 4."""
    if not width > 0:
        raise ConfigError(f"width: expected a positive factor, 1.0 for the full network; got {width}.")
    return max(4, round(channels * width / 4) * 4)
