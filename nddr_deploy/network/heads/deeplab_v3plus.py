"""DeeplabV3+'s head: pyramid pooling, refined with an early feature of four times the resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nddr_deploy.errors import ConfigError
from nddr_deploy.network.heads.aspp import PyramidPooling
from nddr_deploy.network.heads.base import Head
from nddr_deploy.network.initial import initialise
from nddr_deploy.network.resize import Resize
from nddr_deploy.network.stage import Stage, scaled
from nddr_deploy.resize import Convention


class DeeplabV3Plus(Head):
    """Pyramid pooling, resized to an early stage's output and joined with it; two 3x3 convolutions, a 1x1 with bias.

    Training needs two images or more in a batch, see `ASPP`.

    Shapes:
        x: (N, channels_in, h, w) float, low_level: (N, C, H, W) float -> (N, channels_out, H, W) float.

    Args:
        stages: one stream's, for the channels of the early output.
        resize: the convention in which the pyramid's output is resized.
        width: factor on the 256 channels of the pyramid and the refinement.
        rates: dilations of the pyramid's 3x3 branches: 6, 12, 18 at output stride 16.
        low_level_stage: number, from 1, of the stage whose output before fusion is the early feature.
        low_level_channels: what the early feature is reduced to; None: 48 times `width`.
        dropout: share of the pyramid's output, and of the first 3x3 convolution's, left out in training.

    Raises:
        ConfigError: no such stage.

    Source: Chen et al., Deeplab v3+, 2018, as the AFANet repository's NDDR baseline builds it.
    """

    output = "dense"
    low_level_stage: int | None = 2

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        stages: Sequence[Stage],
        resize: Convention,
        width: float = 1.0,
        rates: Sequence[int] = (6, 12, 18),
        low_level_stage: int = 2,
        low_level_channels: int | None = None,
        dropout: float = 0.5,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if not 1 <= low_level_stage <= len(stages):
            raise ConfigError(
                f"head_options.low_level_stage: expected a stage of this backbone, 1 to {len(stages)}; "
                f"got {low_level_stage}."
            )
        self.low_level_stage = low_level_stage
        hidden = scaled(256, width)
        reduced = scaled(48, width) if low_level_channels is None else low_level_channels

        def conv_bn_relu(source: int, target: int, kernel: int) -> list[nn.Module]:
            conv = nn.Conv2d(source, target, kernel, padding=kernel // 2, bias=False)
            return [conv, nn.BatchNorm2d(target, eps=bn_eps, momentum=bn_momentum), nn.ReLU(inplace=True)]

        self.pyramid = PyramidPooling(channels_in, hidden, rates, dropout, bn_eps, bn_momentum)
        self.reduce = nn.Sequential(*conv_bn_relu(stages[low_level_stage - 1].channels, reduced, 1))
        self.resize = Resize(resize)
        self.refine = nn.Sequential(
            *conv_bn_relu(hidden + reduced, hidden, 3), nn.Dropout(dropout), *conv_bn_relu(hidden, hidden, 3)
        )
        self.classify = nn.Conv2d(hidden, channels_out, 1)
        initialise(self)
        initialise(self.classify, deviation=0.01)

    def forward(self, x: torch.Tensor, low_level: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        detail = self.reduce(low_level)
        joined = torch.cat([self.resize(self.pyramid(x), detail), detail], dim=1)
        out: torch.Tensor = self.classify(self.refine(joined))
        return out
