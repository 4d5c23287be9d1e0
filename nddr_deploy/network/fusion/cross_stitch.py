"""Cross-stitch units: NDDR without BatchNorm in which each block of the weights is one scalar times the identity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nddr_deploy.network.fusion.base import Features, Fusion


class CrossStitch(Fusion):
    """Each stream goes on with a weighted sum of all streams' features.

    `mix[t, s]` is what stream t takes from stream s: (K, K, 1, 1, 1), or (K, K, C, 1, 1) where `per_channel`.

    Shapes:
        in and out: one (N, C, H, W) float tensor per stream, C the same for all.

    Args:
        streams: names.
        channels: C.
        per_channel: one weight per channel instead of one per pair of streams.
        own, other: the start: a stream's weight on itself, and on each other one.

    Source:
        Misra et al., Cross-stitch networks, CVPR 2016; section 3.4 of the paper.
    """

    def __init__(
        self,
        streams: Sequence[str],
        channels: int,
        *,
        per_channel: bool = False,
        own: float = 0.9,
        other: float = 0.1,
    ) -> None:
        super().__init__(streams, channels)
        count = len(self.streams)
        start = torch.full((count, count), other).fill_diagonal_(own)
        per_pair = channels if per_channel else 1
        self.mix = nn.Parameter(start[:, :, None, None, None].repeat(1, 1, per_pair, 1, 1))

    def forward(self, features: Features) -> Features:
        return {target: self._mixed(row, features) for row, target in enumerate(self.streams)}

    def _mixed(self, row: int, features: Features) -> torch.Tensor:
        total = self.mix[row, 0] * features[self.streams[0]]
        for column, source in enumerate(self.streams[1:], start=1):
            total = total + self.mix[row, column] * features[source]
        return total
