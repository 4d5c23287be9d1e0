"""The table of backbones: functions that return one stream's stages."""

from __future__ import annotations

from collections.abc import Callable

from nddr_deploy.network.alexnet import alexnet
from nddr_deploy.network.resnet import resnet18, resnet50, resnet101
from nddr_deploy.network.stage import Stage
from nddr_deploy.network.timm_backbone import timm_backbone
from nddr_deploy.network.vgg import vgg16, vgg16_deeplab

BACKBONES: dict[str, Callable[..., list[Stage]]] = {
    "vgg16": vgg16,
    "vgg16_deeplab": vgg16_deeplab,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "alexnet": alexnet,
    "timm": timm_backbone,
}
