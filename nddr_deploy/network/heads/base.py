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

    Attributes:
        low_level_stage: number, from 1, of a stage whose output before fusion `forward` reads as its second argument.
            Such a head is also made with `stages`, one stream's, and `resize`, the network's convention.
        map_side: the only height and width of the last map that the head takes; None: any.
    """

    output: ClassVar[Literal["dense", "pooled"]]
    low_level_stage: int | None = None
    map_side: int | None = None

    @abstractmethod
    def forward(self, x: torch.Tensor) -> torch.Tensor: ...
