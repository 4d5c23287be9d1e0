"""The poolings of Deeplab-VGG-16 that PyTorch has no layer for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from nddr_deploy.errors import unknown_choice


class SameMaxPool(nn.Module):
    """3x3 max-pool with stride 2 and TensorFlow's SAME padding: the output is ceil(n / 2).

    Even sides are padded by 0 before and 1 after, odd ones by 1 and 1, with what can never be the maximum.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = F.pad(x, (x.shape[3] % 2, 1, x.shape[2] % 2, 1), value=float("-inf"))
        return F.max_pool2d(padded, kernel_size=3, stride=2)


class ZeroPaddedMaxPool(nn.Module):
    """3x3 max-pool with stride 2 over one more row and column of zeros at the bottom and right: floor(n / 2).

    The zeros count: where all inputs of a border window are negative, its output is 0.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1)), kernel_size=3, stride=2)


def halving_pool(padding: str) -> nn.Module:
    """3x3 max-pool with stride 2, padded "same" (TensorFlow: ceil(n / 2)), "zeros" or "after" (PyTorch: floor(n / 2)).

    "after" is "zeros" for inputs that are not negative, as they are behind a ReLU. There it equals `ceil_mode`, which
    leaves the padding out of the maximum instead, and needs no copy of the largest maps.
    """
    if padding == "after":
        return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
    if padding == "same":
        return SameMaxPool()
    if padding == "zeros":
        return ZeroPaddedMaxPool()
    raise unknown_choice("backbone_options.pool_padding", padding, ("after", "same", "zeros"))


def last_pools() -> dict[str, nn.Module]:
    """What follows Deeplab's last convolution: 3x3 maximum, then 3x3 average over real pixels, both of stride 1."""
    return {
        "maximum": nn.MaxPool2d(kernel_size=3, stride=1, padding=1),
        "average": nn.AvgPool2d(kernel_size=3, stride=1, padding=1, count_include_pad=False),
    }
