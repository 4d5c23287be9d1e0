"""zhenshen-mla/AFANet, its NDDR baseline for images: ResNet-50 with a classifier each, gender and age group."""

from __future__ import annotations

from nddr_deploy.importers.afanet import FUSED, STREAMS, assumptions, resnet_layers
from nddr_deploy.importers.base import Choices, Foreign, Importer, Plan, class_names, with_overrides
from nddr_deploy.network.config import NetworkConfig
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.tasks import Classification
from nddr_deploy.tasks.class_names import ADIENCE_AGES8

TASKS = ("gender", "age_group")  # A, B


def recognise(foreign: Foreign) -> bool:
    return bool("A_conv1.weight" in foreign.shapes and foreign.with_prefix("NDDR_1."))


def plan(foreign: Foreign, choices: Choices) -> Plan:
    layers, twins = resnet_layers(foreign, "", TASKS)
    for letter, task in zip(STREAMS, TASKS, strict=True):
        layers[f"heads.{task}"] = [f"{letter}_fc"]
    genders, ages = foreign.outputs("A_fc.weight"), foreign.outputs("B_fc.weight")
    return Plan(
        variant="ResNet-50 with a 7x7 average pool and a classifier per task, fused after layer1 to layer4",
        network=NetworkConfig(
            backbone="resnet50",
            backbone_options={"width": foreign.outputs("A_conv1.weight") / 64, "stem_pool": "before_fusion"},
            fusion="nddr",
            fusion_options={"order": "conv-bn-relu"},
            fused_stages=FUSED,
            pooled_head="pooled_linear",
            pooled_head_options={"map_side": 7},
        ),
        tasks=(
            Classification(TASKS[0], classes=class_names([], genders)),
            Classification(TASKS[1], classes=class_names([ADIENCE_AGES8], ages)),
        ),
        preprocess=with_overrides(Preprocess(), choices),
        size_hw=(224, 224),
        layers=layers,
        twins=twins,
        assumed=assumptions(
            choices,
            "classes as in Adience, which the repository names: the first task is gender, the second an age group",
        ),
    )


AFANET_IMAGE = Importer(
    keys="A_conv1.weight, NDDR_1.nddr_1.weight, A_fc.weight",
    recognise=recognise,
    plan=plan,
)
