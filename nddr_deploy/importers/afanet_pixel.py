"""zhenshen-mla/AFANet, its NDDR baseline for pixel tasks: ResNet-50 DeeplabV3+, segmentation and depth."""

from __future__ import annotations

from nddr_deploy.importers.afanet import FUSED, STREAMS, assumptions, resnet_layers
from nddr_deploy.importers.base import Choices, Foreign, Importer, Layers, Plan, class_names, with_overrides
from nddr_deploy.network.config import NetworkConfig
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.tasks import Depth, Segmentation
from nddr_deploy.tasks.class_names import NYU40

TASKS = ("segmentation", "depth")  # A, B
ASPP = ("aspp1", "aspp2", "aspp3", "aspp4")


def recognise(foreign: Foreign) -> bool:
    return bool("backbone.A_conv1.weight" in foreign.shapes and foreign.with_prefix("backbone.NDDR_1."))


def plan(foreign: Foreign, choices: Choices) -> Plan:
    layers, twins = resnet_layers(foreign, "backbone.", TASKS)
    for letter, task in zip(STREAMS, TASKS, strict=True):
        layers[f"heads.{task}"] = _head(letter)
    labels = foreign.outputs("A_decoder.my_classify.weight")
    return Plan(
        variant="ResNet-50 at output stride 16 with DeeplabV3+ heads, fused after layer1 to layer4",
        network=NetworkConfig(
            backbone="resnet50",
            backbone_options={
                "width": foreign.outputs("backbone.A_conv1.weight") / 64,
                "output_stride": 16,
                "multi_grid": (1, 2, 4),
                "stem_pool": "before_fusion",
            },
            fusion="nddr",
            fusion_options={"order": "conv-bn-relu"},
            fused_stages=FUSED,
            resize="align_corners",
            head="deeplab_v3plus",
            head_options={
                "width": foreign.outputs("A_aspp.conv1.weight") / 256,
                "low_level_channels": foreign.outputs("A_decoder.conv1.weight"),
            },
        ),
        tasks=(Segmentation(TASKS[0], classes=class_names([NYU40], labels)), Depth(TASKS[1])),
        preprocess=with_overrides(Preprocess(), choices),
        size_hw=(480, 640),
        layers=layers,
        twins=twins,
        assumed=assumptions(choices, "depth: in the unit of the training's labels, taken to be metres"),
    )


def _head(letter: str) -> Layers:
    """Pyramid, low-level projection, two 3x3 convolutions, classifier: each a convolution and its BatchNorm."""
    aspp, decoder = f"{letter}_aspp", f"{letter}_decoder"
    return [
        *(f"{aspp}.{branch}.{part}" for branch in ASPP for part in ("atrous_conv", "bn")),
        f"{aspp}.global_avg_pool.1",
        f"{aspp}.global_avg_pool.2",
        f"{aspp}.conv1",
        f"{aspp}.bn1",
        f"{decoder}.conv1",
        f"{decoder}.bn1",
        *(f"{decoder}.last_conv.{place}" for place in (0, 1, 4, 5)),
        f"{decoder}.my_classify",
    ]


AFANET_PIXEL = Importer(
    keys="backbone.A_conv1.weight, backbone.NDDR_1.nddr_1.weight, A_aspp.conv1.weight",
    recognise=recognise,
    plan=plan,
)
