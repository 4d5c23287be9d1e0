"""What every head is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import nn


class Head(nn.Module, ABC):
    """One task's head.

    Shapes:
        (N, channels_in, h, w) float -> dense: (N, channels_out, h, w) float; pooled: (N, channels_out) float.

    Args:
        channels_in: of the last stage.
        channels_out: the task's `channels`.
    """

    output: ClassVar[Literal["dense", "pooled"]]

    @abstractmethod
    def forward(self, x: torch.Tensor) -> torch.Tensor: ...
