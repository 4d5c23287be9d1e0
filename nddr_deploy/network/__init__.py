"""Multi-task networks: backbones cut into stages, fusion layers, the shortcut, heads. Needs PyTorch.

Names are imported when they are first used, so that reading `network.config` needs no PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nddr_deploy.network.backbones import BACKBONES
    from nddr_deploy.network.build import build_network
    from nddr_deploy.network.config import NetworkConfig
    from nddr_deploy.network.fusion import FUSIONS
    from nddr_deploy.network.heads import HEADS
    from nddr_deploy.network.image_input import ImageInput, ImageModel
    from nddr_deploy.network.load import load_backbone, load_single_task, load_streams
    from nddr_deploy.network.network import MultiTaskNetwork
    from nddr_deploy.network.resize import Resize

__all__ = [
    "BACKBONES",
    "FUSIONS",
    "HEADS",
    "ImageInput",
    "ImageModel",
    "MultiTaskNetwork",
    "NetworkConfig",
    "Resize",
    "build_network",
    "load_backbone",
    "load_single_task",
    "load_streams",
]

_HOME = {
    "BACKBONES": "backbones",
    "FUSIONS": "fusion",
    "HEADS": "heads",
    "ImageInput": "image_input",
    "ImageModel": "image_input",
    "MultiTaskNetwork": "network",
    "NetworkConfig": "config",
    "Resize": "resize",
    "build_network": "build",
    "load_backbone": "load",
    "load_single_task": "load",
    "load_streams": "load",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nddr_deploy.network' has no attribute {name!r}")
    return getattr(import_module(f"nddr_deploy.network.{_HOME[name]}"), name)
