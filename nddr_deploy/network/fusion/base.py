"""What every fusion layer is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from nddr_deploy.errors import ConfigError
from nddr_deploy.network.stage import Stage

Features = dict[str, torch.Tensor]


class Fusion(nn.Module, ABC):
    """Reads the features of all streams after a stage and makes the input of each stream's next stage.

    Shapes:
        in and out: one (N, C, H, W) float tensor per stream, of the same shape.

    Args:
        streams: names, in the order in which features are concatenated.
        channels: C.

    Raises:
        ConfigError: fewer streams than the layer can fuse.
    """

    needs_streams: ClassVar[int] = 2

    def __init__(self, streams: Sequence[str], channels: int) -> None:
        super().__init__()
        if len(streams) < self.needs_streams:
            raise ConfigError(
                f"A fusion layer needs at least {self.needs_streams} tasks; got {len(streams)}: {', '.join(streams)}. "
                "Add a task, or choose fusion 'none'."
            )
        self.streams = tuple(streams)
        self.channels = channels

    @abstractmethod
    def forward(self, features: Features) -> Features: ...

    def penalty(self, stages: Mapping[str, Stage]) -> torch.Tensor | None:
        """A term to add to the loss, or None.

        Args:
            stages: stream -> the stage that feeds this layer.
        """
        return None
