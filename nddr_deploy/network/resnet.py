"""ResNet-18, -50 and -101, plain or dilated, cut after conv1 and after each layer. Keys are torchvision's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.network.initial import initialise
from nddr_deploy.network.stage import Stage, scaled


class Block(nn.Module):
    """`ReLU(F(x) + x)` with F two 3x3 convolutions, or a 1x1, a 3x3 and a 1x1 one (bottleneck). BatchNorm after each.

    Args:
        channels_in, channels, channels_out: of the input, of the 3x3 convolutions, and of the output.
        stride: of the first 3x3 convolution.
        dilations: of the first 3x3 convolution and of the second (a bottleneck has only a first).
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        channels_out: int,
        *,
        bottleneck: bool,
        stride: int,
        dilations: tuple[int, int],
        bn_eps: float,
        bn_momentum: float,
    ) -> None:
        super().__init__()

        def conv(source: int, target: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
            padding = dilation * (kernel // 2)
            return nn.Conv2d(source, target, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)

        def bn(target: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(target, eps=bn_eps, momentum=bn_momentum)

        first, second = dilations
        if bottleneck:
            self.conv1, self.bn1 = conv(channels_in, channels, 1), bn(channels)
            self.conv2, self.bn2 = conv(channels, channels, 3, stride, first), bn(channels)
            self.conv3, self.bn3 = conv(channels, channels_out, 1), bn(channels_out)
        else:
            self.conv1, self.bn1 = conv(channels_in, channels, 3, stride, first), bn(channels)
            self.conv2, self.bn2 = conv(channels, channels_out, 3, 1, second), bn(channels_out)
        self.bottleneck = bottleneck
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(conv(channels_in, channels_out, 1, stride), bn(channels_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        if self.bottleneck:
            residual = self.bn3(self.conv3(self.relu(residual)))
        out: torch.Tensor = self.relu(residual + (x if self.downsample is None else self.downsample(x)))
        return out


def resnet18(
    *,
    width: float = 1.0,
    output_stride: int = 32,
    multi_grid: Sequence[int] = (),
    stem_pool: str = "after_fusion",
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
) -> list[Stage]:
    """ResNet-18; see `resnet50` for the options."""
    return _stages((2, 2, 2, 2), False, width, output_stride, multi_grid, stem_pool, bn_eps, bn_momentum)


def resnet50(
    *,
    width: float = 1.0,
    output_stride: int = 32,
    multi_grid: Sequence[int] = (),
    stem_pool: str = "after_fusion",
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
) -> list[Stage]:
    """ResNet-50: five stages.

    Args:
        width: factor on every number of channels.
        output_stride: 32, or 16 or 8 by dilation in place of the last one or two strides (torchvision's
            `replace_stride_with_dilation`: a layer's first 3x3 convolution keeps the dilation of the layer before).
        multi_grid: one factor per block of layer4 on the dilation of the block's first 3x3 convolution: (1, 2, 4) at
            output stride 16 makes them 2, 4, 8. Empty: torchvision's dilations.
        stem_pool: the max-pool after conv1 comes "after_fusion" (the paper: conv1 itself is fused) or "before_fusion"
            (public PyTorch code).

    Source: He et al., 2016; section 3.5 of the paper for the places of fusion; Chen et al., 2017, for the multi-grid.
    """
    return _stages((3, 4, 6, 3), True, width, output_stride, multi_grid, stem_pool, bn_eps, bn_momentum)


def resnet101(
    *,
    width: float = 1.0,
    output_stride: int = 32,
    multi_grid: Sequence[int] = (),
    stem_pool: str = "after_fusion",
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
) -> list[Stage]:
    """ResNet-101; see `resnet50` for the options."""
    return _stages((3, 4, 23, 3), True, width, output_stride, multi_grid, stem_pool, bn_eps, bn_momentum)


def _stages(
    blocks: tuple[int, int, int, int],
    bottleneck: bool,
    width: float,
    output_stride: int,
    multi_grid: Sequence[int],
    stem_pool: str,
    bn_eps: float,
    bn_momentum: float,
) -> list[Stage]:
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"backbone_options.output_stride: expected 8, 16 or 32; got {output_stride}.")
    if stem_pool not in ("after_fusion", "before_fusion"):
        raise unknown_choice("backbone_options.stem_pool", stem_pool, ("after_fusion", "before_fusion"))
    if multi_grid and (len(multi_grid) != blocks[-1] or any(type(rate) is not int or rate < 1 for rate in multi_grid)):
        raise ConfigError(
            f"backbone_options.multi_grid: expected {blocks[-1]} whole factors from 1, one per block of layer4; "
            f"got {list(multi_grid)}."
        )
    channels_in = scaled(64, width)
    stem: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, channels_in, 7, stride=2, padding=3, bias=False),
        "bn1": nn.BatchNorm2d(channels_in, eps=bn_eps, momentum=bn_momentum),
        "relu": nn.ReLU(inplace=True),
    }
    pool = {"maxpool": nn.MaxPool2d(kernel_size=3, stride=2, padding=1)}
    pooled_first = stem_pool == "before_fusion"
    stages = [Stage({**stem, **(pool if pooled_first else {})}, channels_in, 4 if pooled_first else 2)]
    reached, dilation = 4, 1
    for number, count in enumerate(blocks, start=1):
        stride = 1 if number == 1 else 2
        before = dilation
        if reached * stride > output_stride:
            dilation, stride = dilation * stride, 1
        reached *= stride
        channels = scaled(64 * 2 ** (number - 1), width)
        channels_out = 4 * channels if bottleneck else channels
        first_dilations = [before, *[dilation] * (count - 1)]
        if multi_grid and number == len(blocks):
            first_dilations = [dilation * factor for factor in multi_grid]
        layer = nn.Sequential()
        for block, first_dilation in enumerate(first_dilations):
            layer.append(
                Block(
                    channels_in,
                    channels,
                    channels_out,
                    bottleneck=bottleneck,
                    stride=stride if block == 0 else 1,
                    dilations=(first_dilation, dilation),
                    bn_eps=bn_eps,
                    bn_momentum=bn_momentum,
                )
            )
            channels_in = channels_out
        pool_here = number == 1 and not pooled_first
        layers: dict[str, nn.Module] = {**(pool if pool_here else {}), f"layer{number}": layer}
        stages.append(Stage(layers, channels_out, 2 if pool_here else stride))
    for stage in stages:
        initialise(stage)
    return stages
