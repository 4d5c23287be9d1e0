"""The poolings of Deeplab-VGG-16 that PyTorch has no layer for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from nddr_deploy.errors import unknown_choice


class SameMaxPool(nn.Module):
    """3x3 max-pool with stride 2 and TensorFlow's SAME padding: the output is ceil(n / 2).

    Even sides are padded by 0 before and 1 after, odd ones by 1 and 1. The padding is 0, so inputs must not be negative
    (they come from a ReLU): then it is never the only maximum.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = F.pad(x, (x.shape[3] % 2, 1, x.shape[2] % 2, 1))
        return F.max_pool2d(padded, kernel_size=3, stride=2)


def halving_pool(padding: str) -> nn.Module:
    """3x3 max-pool with stride 2, padded "after" (PyTorch ports: floor(n / 2)) or "same" (TensorFlow: ceil(n / 2)).

    "after" is one row and one column of zeros at the bottom and right. After a ReLU that equals `ceil_mode`, which
    leaves those positions out of the maximum instead, and needs no copy of the largest maps.
    """
    if padding == "after":
        return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
    if padding == "same":
        return SameMaxPool()
    raise unknown_choice("backbone_options.pool_padding", padding, ("after", "same"))
