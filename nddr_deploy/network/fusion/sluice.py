"""Sluice units: NDDR without BatchNorm in which each block of the weights is 2 x 2 scalars, each times the identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from nddr_deploy.errors import ConfigError
from nddr_deploy.network.fusion.base import Features, Fusion
from nddr_deploy.network.stage import Stage

SUBSPACES = 2


class Sluice(Fusion):
    """Every stream's channels in two halves (subspaces); a trained 2K x 2K matrix mixes all halves.

    `mix[i, j]` is what half i takes from half j; halves are numbered stream by stream.

    Shapes:
        in and out: one (N, C, H, W) float tensor per stream, C even and the same for all.

    Args:
        streams: names.
        channels: C.
        own: the start of the diagonal. The rest of a row shares 0.1: each 0.1 / (2K - 1).
        orthogonality: weight of the penalty that keeps the halves different, see `penalty`.

    Raises:
        ConfigError: fewer than two streams, or an odd number of channels.

    Source:
        Ruder et al., Latent multi-task architecture learning, AAAI 2019; section 3.4 of the paper.
    """

    def __init__(
        self,
        streams: Sequence[str],
        channels: int,
        *,
        own: float = 0.9,
        orthogonality: float = 0.0,
    ) -> None:
        super().__init__(streams, channels)
        if channels % SUBSPACES:
            raise ConfigError(
                f"A sluice unit halves the channels; got {channels}. Choose a width that makes them even."
            )
        count = SUBSPACES * len(self.streams)
        self.mix = nn.Parameter(torch.full((count, count), 0.1 / (count - 1)).fill_diagonal_(own))
        self.orthogonality = orthogonality

    def forward(self, features: Features) -> Features:
        half = self.channels // SUBSPACES
        halves = [features[s][:, part * half : (part + 1) * half] for s in self.streams for part in range(SUBSPACES)]
        mixed = [self._mixed(row, halves) for row in range(len(halves))]
        return {
            stream: torch.cat(mixed[SUBSPACES * number : SUBSPACES * (number + 1)], dim=1)
            for number, stream in enumerate(self.streams)
        }

    def _mixed(self, row: int, halves: Sequence[torch.Tensor]) -> torch.Tensor:
        total = self.mix[row, 0] * halves[0]
        for column, half in enumerate(halves[1:], start=1):
            total = total + self.mix[row, column] * half
        return total

    def penalty(self, stages: Mapping[str, Stage]) -> torch.Tensor | None:
        """`orthogonality` times the sum over streams of ||G1^T G2||^2 (Frobenius); G1, G2: the halves' filters."""
        if not self.orthogonality:
            return None
        total = torch.zeros((), device=self.mix.device)
        for stream in self.streams:
            filters = stages[stream].last_convolution().weight.flatten(1)  # (C, I * k * k)
            first, second = filters.chunk(SUBSPACES, dim=0)
            total = total + (first @ second.T).square().sum()
        return self.orthogonality * total
