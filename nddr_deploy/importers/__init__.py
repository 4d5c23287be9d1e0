"""Checkpoints that other public code trained, read into our network and manifest. Needs PyTorch.

Names are imported when they are first used, so that the table of formats needs no PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nddr_deploy.importers.table import IMPORTERS

if TYPE_CHECKING:
    from nddr_deploy.importers.base import Choices
    from nddr_deploy.importers.read import Imported, read_checkpoint
    from nddr_deploy.importers.write import import_checkpoint

__all__ = ["IMPORTERS", "Choices", "Imported", "import_checkpoint", "read_checkpoint"]

_HOME = {"Choices": "base", "Imported": "read", "import_checkpoint": "write", "read_checkpoint": "read"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nddr_deploy.importers' has no attribute {name!r}")
    return getattr(import_module(f"nddr_deploy.importers.{_HOME[name]}"), name)
