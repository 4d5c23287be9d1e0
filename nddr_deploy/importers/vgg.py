"""What the VGG-16 formats have in common: Deeplab-LargeFOV streams for labels and normals on NYU v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from nddr_deploy.errors import UnsupportedError
from nddr_deploy.importers.base import Choices, Foreign, class_names
from nddr_deploy.importers.normals import normals_axes
from nddr_deploy.network.config import NetworkConfig
from nddr_deploy.resize import Convention
from nddr_deploy.tasks import Normals, Segmentation, Task
from nddr_deploy.tasks.class_names import NYU40

TASKS = ("segmentation", "normals")  # in the order of concatenation
SIZE_HW = (480, 640)  # NYU v2
CONVOLUTIONS = (2, 2, 3, 3, 3)  # per stage
# Where a stage begins in the flat list of layers, in which the PyTorch ports name every tensor a second time.
FLAT_OFFSETS = (0, 8, 16, 27, 37)
BN_EPS = 1e-3
MEAN_RGB = (122.67891434, 116.66876762, 104.00698793)  # of ImageNet, 0..255: Deeplab's


def origin(foreign: Foreign) -> Literal["mtlnas", "nddrpytorch"] | None:
    """Which of the two PyTorch ports wrote the file; None where nothing in it tells (their plain keys are the same)."""
    keys, extras = foreign.shapes, set(foreign.extras)
    if foreign.with_prefix("nddrs.shortcut."):
        return "nddrpytorch"
    only_there = ("net1.stages.5.", "aux_conv1.", "nddrs.nddrs.0.conv.", "nddrs.nddrs.0.a11")
    if any(foreign.with_prefix(prefix) for prefix in only_there):
        return "mtlnas"
    if "nddrs.nddrs.0.conv1.bias" in keys or {"loss_seg", "loss_normal", "angle_metrics"} & extras:
        return "nddrpytorch"
    if {"loss1", "loss2", "task1_metric"} & extras:
        return "mtlnas"
    settings = foreign.section("MODEL").keys()
    if {"NDDR_TYPE", "NDDR_BN_TYPE", "BACKBONE"} & settings:
        return "mtlnas"
    return "nddrpytorch" if {"SHORTCUT", "BN_BEFORE_RELU"} & settings else None


def is_vgg_pair(foreign: Foreign) -> bool:
    """Whether the keys are those that both PyTorch ports share."""
    return "net1.stages.0.feature.0.weight" in foreign.shapes and bool(foreign.with_prefix("nddrs.nddrs.0."))


def stage_twins(foreign: Foreign, number: int, stage: int, offset: int) -> dict[str, str]:
    """The second name of each tensor of a stage -> its first.

    Args:
        number: of the stream, from 1.
        stage: from 0.
        offset: where the stage begins in the flat list.
    """
    prefix = f"net{number}.stages.{stage}.feature."
    twins = {}
    for key in foreign.with_prefix(prefix):
        place, _, parameter = key.removeprefix(prefix).partition(".")
        if place.isdigit():
            twins[f"net{number}.features.{int(place) + offset}.{parameter}"] = key
    return twins


def vgg_network(
    foreign: Foreign,
    first: str,
    hidden: str,
    *,
    resize: Convention,
    backbone_options: Mapping[str, Any],
    fusion: str = "nddr",
    fusion_options: Mapping[str, Any],
    shortcut: Literal["none", "per_task", "shared"] = "none",
    shortcut_options: Mapping[str, Any] | None = None,
    head_options: Mapping[str, Any] | None = None,
) -> NetworkConfig:
    """Deeplab-LargeFOV with BatchNorm of eps 1e-3 everywhere, as wide as the file's layers.

    Args:
        first, hidden: the weights of the first convolution (64 outputs at full width) and of fc6 (1024).
    """
    bn = {"bn_eps": BN_EPS, "bn_momentum": 0.05}
    return NetworkConfig(
        backbone="vgg16_deeplab",
        backbone_options={"width": foreign.outputs(first) / 64, **bn, **backbone_options},
        fusion=fusion,
        fusion_options={**fusion_options, **(bn if fusion == "nddr" else {})},
        shortcut=shortcut,
        shortcut_options={**shortcut_options, **bn} if shortcut_options else {},
        resize=resize,
        head="large_fov",
        head_options={"width": foreign.outputs(hidden) / 1024, **bn, **(head_options or {})},
    )


def vgg_tasks(foreign: Foreign, classifiers: tuple[str, str], choices: Choices) -> tuple[tuple[Task, ...], str]:
    """The two tasks, and what is assumed of the normals.

    Args:
        classifiers: the weights of the two last layers.

    Raises:
        UnsupportedError: the second head has not three outputs.
    """
    labels, vector = (foreign.outputs(key) for key in classifiers)
    if vector != 3:
        raise UnsupportedError(
            f"{foreign.path}: {classifiers[1]!r} has {vector} outputs. This format's second task is surface normals, "
            "with 3; other pairs of tasks are not known."
        )
    axes, assumed = normals_axes(choices)
    segmentation = Segmentation(TASKS[0], classes=class_names([NYU40], labels))
    coding = "learned as the direction of a colour (n + 1) * 255 / 2, decoded by the larger root, which is right where "
    note = f"normals: {coding}the components of n add up to -1 or more; {assumed}"
    return (segmentation, Normals(TASKS[1], coding="colour", axes=axes)), note
