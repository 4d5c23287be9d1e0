"""No fusion: single-task networks side by side, or the one stream of a shared trunk."""

from __future__ import annotations

from nddr_deploy.network.fusion.base import Features, Fusion


class NoFusion(Fusion):
    """Every stream goes on by itself."""

    needs_streams = 1

    def forward(self, features: Features) -> Features:
        return features
