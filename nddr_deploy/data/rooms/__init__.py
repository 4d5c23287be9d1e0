"""Synthetic indoor scenes with exact labels, normals and depth: a data set (`Rooms`) and a video (`Walkthrough`)."""

from __future__ import annotations

from nddr_deploy.data.rooms.dataset import Rooms
from nddr_deploy.data.rooms.walkthrough import Walkthrough, render_walkthrough

__all__ = ["Rooms", "Walkthrough", "render_walkthrough"]
