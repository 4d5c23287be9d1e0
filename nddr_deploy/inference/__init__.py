"""Run an engine on videos, pictures and live sources. A source or a sink is one file and one line in a table."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nddr_deploy.inference.pipeline import run_pipeline
    from nddr_deploy.inference.run import infer
    from nddr_deploy.inference.sinks import SINKS, open_sink
    from nddr_deploy.inference.sources import SOURCES, open_source

__all__ = ["SINKS", "SOURCES", "infer", "open_sink", "open_source", "run_pipeline"]

_HOME = {
    "SINKS": "sinks",
    "SOURCES": "sources",
    "infer": "run",
    "open_sink": "sinks",
    "open_source": "sources",
    "run_pipeline": "pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nddr_deploy.inference' has no attribute {name!r}")
    return getattr(import_module(f"nddr_deploy.inference.{_HOME[name]}"), name)
