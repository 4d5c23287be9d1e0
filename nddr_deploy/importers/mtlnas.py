"""bhpfelix/MTLNAS: two VGG-16 streams with 5 or 13 fusions of several kinds (not its architecture search)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nddr_deploy.errors import ConfigError, ModelFileError, UnsupportedError
from nddr_deploy.importers.base import Choices, Foreign, Importer, Layers, Plan, Triple, with_overrides
from nddr_deploy.importers.normals import AXES
from nddr_deploy.importers.vgg import (
    CONVOLUTIONS,
    FLAT_OFFSETS,
    MEAN_RGB,
    SIZE_HW,
    TASKS,
    is_vgg_pair,
    origin,
    stage_twins,
    vgg_network,
    vgg_tasks,
)
from nddr_deploy.preprocess import Preprocess

STAGES = r"net1\.stages\.(\d+)\."
MEAN_FILE = "nyu_v2_mean.npy"
OFFSETS = {5: FLAT_OFFSETS, 13: (0, 3, 6, 11, 14, 19, 22, 25, 30, 33, 36, 40, 43)}
FUSION_NAMES = {"": "nddr", "single_side": "single side", "single_side_reverse": "single side, reverse"}
SINGLE_SIDE = {"forward": "single_side", "reverse": "single_side_reverse"}


def recognise(foreign: Foreign) -> bool:
    return is_vgg_pair(foreign) and origin(foreign) != "nddrpytorch"


def plan(foreign: Foreign, choices: Choices) -> Plan:
    _check_settings(foreign)
    count = 1 + max((int(found[1]) for key in foreign.shapes if (found := re.match(STAGES, key))), default=-1)
    if count not in OFFSETS:
        raise UnsupportedError(f"{foreign.path} has {count} stages; this format has 5 or 13.")
    split = count == 13
    convolutions = _first_layers(count)
    head = (2, 3, 6, 7, 10) if split else (0, 1, 4, 5, 8)
    kind = _fusion_type(foreign, choices)

    layers: dict[str, Layers] = {}
    twins: dict[str, str] = {}
    for number, task in enumerate(TASKS, start=1):
        for stage, places in enumerate(convolutions):
            names = [f"net{number}.stages.{stage}.feature.{place}" for place in places]
            layers[f"stages.{stage}.{task}"] = names
            twins |= stage_twins(foreign, number, stage, OFFSETS[count][stage])
        layers[f"heads.{task}"] = [f"net{number}.head.{place}" for place in head]
    fusion, fusion_options, fusion_layers, stacked = _fusion(kind, count)
    network = vgg_network(
        foreign,
        "net1.stages.0.feature.0.weight",
        f"net1.head.{head[0]}.weight",
        resize="align_corners",
        backbone_options={"cut": "convolution", "pool_padding": "zeros"} if split else {"pool_padding": "after"},
        fusion=fusion,
        fusion_options=fusion_options,
        head_options={"pools": True} if split else {},
    )
    tasks, about_normals = vgg_tasks(foreign, (f"net1.head.{head[4]}.weight", f"net2.head.{head[4]}.weight"), choices)
    mean, about_mean = _mean(foreign.path, choices)
    auxiliary = foreign.with_prefix("aux_conv")
    return Plan(
        variant=f"VGG-16 Deeplab-LargeFOV with {count} fusions ({FUSION_NAMES.get(kind, kind.replace('_', '-'))})",
        network=network,
        tasks=tasks,
        preprocess=with_overrides(Preprocess(scale=1.0, mean=mean, std=(1.0, 1.0, 1.0)), choices),
        size_hw=SIZE_HW,
        layers={**layers, **fusion_layers},
        stacked=stacked,
        twins=twins,
        ignored=lambda key: key.startswith(("aux_conv1.", "aux_conv2.")),
        assumed=(*about_mean, about_normals),
        dropped=(f"auxiliary heads of the training (aux_conv1, aux_conv2: {len(auxiliary)} tensors)",)
        if auxiliary
        else (),
    )


def _check_settings(foreign: Foreign) -> None:
    bn_type = foreign.setting("MODEL.NDDR_BN_TYPE", "default")
    if bn_type != "default":
        raise UnsupportedError(
            f"{foreign.path}: its cfg says MODEL.NDDR_BN_TYPE {bn_type!r}; only 'default' is known. "
            "Such a network cannot be imported."
        )
    if foreign.setting("TASK", "pixel") != "pixel":
        raise UnsupportedError(
            f"{foreign.path}: its cfg says TASK {foreign.setting('TASK')!r}; only pixel tasks are known in this format."
        )


def _first_layers(count: int) -> list[tuple[int, ...]]:
    """Per stage, the places of its convolutions and BatchNorm layers, in order."""
    if count == 5:
        return [tuple(3 * n + part for n in range(convolutions) for part in (0, 1)) for convolutions in CONVOLUTIONS]
    start = {2: 2, 4: 2, 7: 2, 10: 1}  # behind the pools that begin a stage
    return [(start.get(stage, 0), start.get(stage, 0) + 1) for stage in range(count)]


def _fusion_type(foreign: Foreign, choices: Choices) -> str:
    """`cfg.MODEL.NDDR_TYPE`, as the keys, the file's cfg and the user have it."""
    said = foreign.setting("MODEL.NDDR_TYPE")
    if said not in (None, "", "cross_stitch", "single_side", "single_side_reverse"):
        raise UnsupportedError(
            f"{foreign.path}: its cfg says MODEL.NDDR_TYPE {said!r}. Known are '' (nddr), 'cross_stitch', "
            "'single_side' and 'single_side_reverse'."
        )
    if "nddrs.nddrs.0.a11" in foreign.shapes:
        seen: Sequence[str] = ("cross_stitch",)
    elif "nddrs.nddrs.0.conv.weight" in foreign.shapes:
        seen = ("single_side", "single_side_reverse")
    else:
        seen = ("",)
    if said is not None and said not in seen:
        raise ModelFileError(
            f"{foreign.path}: its cfg says MODEL.NDDR_TYPE {said!r}, but its keys are those of {seen[0]!r}. "
            "The file was edited; give it as the training wrote it."
        )
    told = choices.assume.get("single-side")
    if told is not None and len(seen) == 1:
        raise ConfigError(f"assume: single-side={told} was given, but {foreign.path} has no single-side fusion.")
    if said is not None and told is not None and said != SINGLE_SIDE[told]:
        raise ConfigError(f"assume: single-side={told} contradicts the file's cfg, MODEL.NDDR_TYPE {said!r}.")
    kind = said if said is not None else SINGLE_SIDE[told] if told is not None else None
    if kind is None and len(seen) > 1:
        raise ModelFileError(
            f"{foreign.path} has single-side fusion and no cfg that says which side. Add --assume single-side=forward "
            "(the second task, normals, reads the first) or --assume single-side=reverse."
        )
    return seen[0] if kind is None else kind


def _fusion(kind: str, count: int) -> tuple[str, dict[str, Any], Mapping[str, Layers], Mapping[str, Sequence[str]]]:
    """Key of FUSIONS, its options, and where the weights come from."""
    stages = range(count)
    if kind == "cross_stitch":  # a21 is what task 1 takes from task 2
        units = {f"fusions.{s}.mix": [f"nddrs.nddrs.{s}.a{pair}" for pair in ("11", "21", "12", "22")] for s in stages}
        return "cross_stitch", {}, {}, units
    if kind == "":
        both = {
            f"fusions.{s}.layers.{task}": [f"nddrs.nddrs.{s}.conv{number}", f"nddrs.nddrs.{s}.bn{number}"]
            for s in stages
            for number, task in enumerate(TASKS, start=1)
        }
        return "nddr", {"order": "conv-bn-relu"}, both, {}
    fused = TASKS[0] if kind == "single_side_reverse" else TASKS[1]
    one = {f"fusions.{s}.layers.{fused}": [f"nddrs.nddrs.{s}.conv", f"nddrs.nddrs.{s}.bn"] for s in stages}
    return "nddr", {"order": "conv-bn", "single_side": [fused], "own_first": True}, one, {}


def _mean(path: Path, choices: Choices) -> tuple[Triple, tuple[str, ...]]:
    """The mean of the data set, which no checkpoint of this format holds."""
    beside = path.parent / MEAN_FILE
    if choices.mean is not None:
        return choices.mean, ("mean as told, not from the file",)
    if not beside.is_file():
        return MEAN_RGB, (
            f"mean {MEAN_RGB} (R, G, B of 0..255): the training took it from {MEAN_FILE}, which is not beside the "
            "file (put it there, or say --mean R,G,B)",
        )
    try:
        values = np.load(beside, allow_pickle=False)
        red, green, blue = (float(value) for value in np.asarray(values, dtype=np.float64).reshape(3))
    except (ValueError, OSError, EOFError) as error:
        raise ModelFileError(f"{beside} is not a mean of three numbers: {error}. Remove it, or say --mean.") from error
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ModelFileError(f"{beside} holds {red}, {green}, {blue}; expected three means of 0 to 255.")
    return (red, green, blue), (f"mean ({red:g}, {green:g}, {blue:g}) from {MEAN_FILE} beside the file",)


MTLNAS = Importer(
    keys="net1.stages.0.feature.0.weight, nddrs.nddrs.0.conv1.weight",
    recognise=recognise,
    plan=plan,
    assumptions={"single-side": ("forward", "reverse"), AXES: ()},
)
