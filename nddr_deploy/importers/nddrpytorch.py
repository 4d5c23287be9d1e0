"""bhpfelix/NDDR-CNN-PyTorch: two VGG-16 streams with 5 fusions, with or without a shortcut that both tasks share."""

from __future__ import annotations

from collections.abc import Sequence

from nddr_deploy.errors import ConfigError, ModelFileError
from nddr_deploy.importers.base import Choices, Foreign, Importer, Layers, Plan, with_overrides
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

HEAD = (0, 1, 4, 5, 8)
ORDERS = {"before-relu": "conv-bn-relu", "after-relu": "conv-relu-bn"}


def recognise(foreign: Foreign) -> bool:
    return is_vgg_pair(foreign) and origin(foreign) != "mtlnas"


def plan(foreign: Foreign, choices: Choices) -> Plan:
    shortcut = bool(foreign.with_prefix("nddrs.shortcut."))
    order = _order(foreign, choices, shortcut)
    layers: dict[str, Layers] = {}
    twins: dict[str, str] = {}
    for number, task in enumerate(TASKS, start=1):
        for stage, convolutions in enumerate(CONVOLUTIONS):
            prefix = f"net{number}.stages.{stage}.feature."
            layers[f"stages.{stage}.{task}"] = [
                f"{prefix}{3 * n + part}" for n in range(convolutions) for part in (0, 1)
            ]
            layers[f"fusions.{stage}.layers.{task}"] = [
                f"nddrs.nddrs.{stage}.{part}{number}" for part in ("conv", "bn")
            ]
            twins |= stage_twins(foreign, number, stage, FLAT_OFFSETS[stage])
        layers[f"heads.{task}"] = [f"net{number}.head.{place}" for place in HEAD]
    if shortcut:
        batchnorm = 1 if order == "conv-bn-relu" else 2
        layers["shortcut.layers.shared"] = ["nddrs.shortcut.0", f"nddrs.shortcut.{batchnorm}"]
    network = vgg_network(
        foreign,
        "net1.stages.0.feature.0.weight",
        "net1.head.0.weight",
        resize="align_corners",
        backbone_options={"pool_padding": "after"},
        fusion_options={"order": order, "bias": "nddrs.nddrs.0.conv1.bias" in foreign.shapes},
        shortcut="shared" if shortcut else "none",
        shortcut_options={"order": order, "bias": "nddrs.shortcut.0.bias" in foreign.shapes} if shortcut else None,
    )
    tasks, about_normals = vgg_tasks(foreign, ("net1.head.8.weight", "net2.head.8.weight"), choices)
    place = "before" if order == "conv-bn-relu" else "after"
    assumed = [about_normals]
    if "bn" in choices.assume and foreign.setting("MODEL.BN_BEFORE_RELU") is None:
        assumed.insert(0, f"BatchNorm {place} ReLU in the fusion layers: as told, the file does not say it")
    return Plan(
        variant=f"VGG-16 Deeplab-LargeFOV with 5 fusions (nddr, BatchNorm {place} ReLU)"
        + (", one shortcut for both tasks" if shortcut else ""),
        network=network,
        tasks=tasks,
        preprocess=with_overrides(Preprocess(scale=1.0, mean=MEAN_RGB, std=(1.0, 1.0, 1.0)), choices),
        size_hw=SIZE_HW,
        layers=layers,
        twins=twins,
        assumed=tuple(assumed),
    )


def _order(foreign: Foreign, choices: Choices, shortcut: bool) -> str:
    """Where BatchNorm stands in the fusion layers: by the shortcut's keys, the file's cfg, or the user."""
    found: dict[str, str] = {}  # who says it -> what
    before = foreign.setting("MODEL.BN_BEFORE_RELU")
    if before is not None:
        found["its cfg"] = "before-relu" if before else "after-relu"
    if shortcut:
        found["the place of the shortcut's BatchNorm"] = (
            "after-relu" if "nddrs.shortcut.2.weight" in foreign.shapes else "before-relu"
        )
    told = choices.assume.get("bn")
    if len(set(found.values())) > 1:
        raise ModelFileError(
            f"{foreign.path} contradicts itself: {_listed(found)}. The file was edited; give it as it was written."
        )
    if found:
        settled = next(iter(found.values()))
        if told not in (None, settled):
            raise ConfigError(f"assume: bn={told} contradicts {foreign.path}: {_listed(found)}.")
        return ORDERS[settled]
    if told is None:
        raise ModelFileError(
            f"{foreign.path} has no cfg that says where BatchNorm stands in the fusion layers; its keys do not tell. "
            "Add --assume bn=before-relu or --assume bn=after-relu; a wrong choice ruins the outputs."
        )
    return ORDERS[told]


def _listed(found: dict[str, str]) -> str:
    parts: Sequence[str] = [f"{who} says bn={what}" for who, what in found.items()]
    return ", ".join(parts)


NDDRPYTORCH = Importer(
    keys="net1.stages.0.feature.0.weight, nddrs.nddrs.0.conv1.weight, nddrs.shortcut.0.weight",
    recognise=recognise,
    plan=plan,
    assumptions={"bn": tuple(ORDERS), AXES: ()},
)
