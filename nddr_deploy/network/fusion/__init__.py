"""Fusion layers: what streams exchange after a stage."""

from __future__ import annotations

from nddr_deploy.network.fusion.base import Fusion
from nddr_deploy.network.fusion.cross_stitch import CrossStitch
from nddr_deploy.network.fusion.nddr import NDDR
from nddr_deploy.network.fusion.none import NoFusion
from nddr_deploy.network.fusion.sluice import Sluice

FUSIONS: dict[str, type[Fusion]] = {
    "none": NoFusion,
    "shared": NoFusion,  # one stream that every head reads
    "nddr": NDDR,
    "cross_stitch": CrossStitch,
    "sluice": Sluice,
}

__all__ = ["FUSIONS", "NDDR", "CrossStitch", "Fusion", "NoFusion", "Sluice"]
