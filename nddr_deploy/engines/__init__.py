"""Engines run a model: every head from one pass, by name. A backend is one file and one line in `BACKENDS`."""

from __future__ import annotations

from nddr_deploy.engines.table import BACKENDS, open_engine

__all__ = ["BACKENDS", "open_engine"]
