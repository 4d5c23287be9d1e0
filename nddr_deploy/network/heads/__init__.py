"""Heads: from a task's last features to its raw output."""

from __future__ import annotations

from nddr_deploy.network.heads.aspp import ASPP
from nddr_deploy.network.heads.base import Head
from nddr_deploy.network.heads.deeplab import Conv1x1, DeeplabV2, LargeFov
from nddr_deploy.network.heads.deeplab_v3plus import DeeplabV3Plus
from nddr_deploy.network.heads.pooled import Classifier, PooledLinear

HEADS: dict[str, type[Head]] = {
    "large_fov": LargeFov,
    "deeplab_v2": DeeplabV2,
    "aspp": ASPP,
    "deeplab_v3plus": DeeplabV3Plus,
    "conv1x1": Conv1x1,
    "classifier": Classifier,
    "pooled_linear": PooledLinear,
}

__all__ = ["ASPP", "HEADS", "Classifier", "Conv1x1", "DeeplabV2", "DeeplabV3Plus", "Head", "LargeFov", "PooledLinear"]
