"""DeeplabV3+ on a ResNet with a multi-grid, fused after its four layers: the AFANet repository's NDDR baseline."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from formulas import Weights, agree, convolve, normalise
from network_samples import DEPTH, NARROW, NORMALS, SEGMENTATION, images, narrow
from torch import fx

from nddr_deploy.errors import ConfigError
from nddr_deploy.network import BACKBONES, MultiTaskNetwork

EPS = 1e-5
BLOCKS, STRIDES, RATES_OF_LAYER4 = (3, 4, 6, 3), (1, 2, 2, 1), (2, 4, 8)


def pair(fusion: str = "nddr", resize: str = "align_corners", **head_options: object) -> MultiTaskNetwork:
    fused = {"fused_stages": (2, 3, 4, 5), "fusion_options": {"order": "conv-bn-relu"}} if fusion == "nddr" else {}
    network = narrow(
        "resnet50",
        fusion,
        (SEGMENTATION, DEPTH),
        backbone_options={"output_stride": 16, "multi_grid": (1, 2, 4), "stem_pool": "before_fusion"},
        resize=resize,
        head="deeplab_v3plus",
        head_options={"width": NARROW, **head_options},
        **fused,
    )
    for name, weight in network.named_parameters():
        if name.startswith("fusions") and name.endswith("conv.weight"):
            weight.data += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    return network


def conv_bn_relu(x: torch.Tensor, w: Weights, conv: str, bn: str, rate: int = 1) -> torch.Tensor:
    return normalise(convolve(x, w, conv, rate=rate), w, bn, EPS).relu()


def forward(w: Weights, x: torch.Tensor, tasks: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The same network from the description of its checkpoints."""
    features, low_level = {}, {}
    for task in tasks:
        key = f"stages.0.{task}"
        stem = F.conv2d(x, w[f"{key}.conv1.weight"], stride=2, padding=3)
        features[task] = F.max_pool2d(normalise(stem, w, f"{key}.bn1", EPS).relu(), 3, 2, 1)
    for number, count in enumerate(BLOCKS, start=1):
        for task in tasks:
            for block in range(count):
                key = f"stages.{number}.{task}.layer{number}.{block}"
                stride = STRIDES[number - 1] if block == 0 else 1
                rate = RATES_OF_LAYER4[block] if number == 4 else 1
                features[task] = bottleneck(features[task], w, key, stride, rate)
        if number == 1:
            low_level = dict(features)
        joined = torch.cat([features[task] for task in tasks], dim=1)
        for task in tasks:
            key = f"fusions.{number}.layers.{task}"
            features[task] = conv_bn_relu(joined, w, f"{key}.conv", f"{key}.bn")
    return {task: head(features[task], low_level[task], w, f"heads.{task}") for task in tasks}


def bottleneck(x: torch.Tensor, w: Weights, key: str, stride: int, rate: int) -> torch.Tensor:
    y = conv_bn_relu(x, w, f"{key}.conv1", f"{key}.bn1")
    y = normalise(convolve(y, w, f"{key}.conv2", stride=stride, rate=rate), w, f"{key}.bn2", EPS).relu()
    y = normalise(convolve(y, w, f"{key}.conv3"), w, f"{key}.bn3", EPS)
    if f"{key}.downsample.0.weight" in w:
        x = normalise(convolve(x, w, f"{key}.downsample.0", stride=stride), w, f"{key}.downsample.1", EPS)
    return (y + x).relu()


def head(x: torch.Tensor, low_level: torch.Tensor, w: Weights, key: str) -> torch.Tensor:
    branches = [
        conv_bn_relu(x, w, f"{key}.pyramid.convs.{number}.0", f"{key}.pyramid.convs.{number}.1", rate)
        for number, rate in enumerate((1, 6, 12, 18))
    ]
    mean = x.mean(dim=(2, 3), keepdim=True)
    mean = conv_bn_relu(mean, w, f"{key}.pyramid.convs.4.1", f"{key}.pyramid.convs.4.2")
    joined = torch.cat([*branches, mean.expand_as(branches[0])], dim=1)
    y = conv_bn_relu(joined, w, f"{key}.pyramid.project.0", f"{key}.pyramid.project.1")
    y = F.interpolate(y, size=low_level.shape[2:], mode="bilinear", align_corners=True)
    y = torch.cat([y, conv_bn_relu(low_level, w, f"{key}.reduce.0", f"{key}.reduce.1")], dim=1)
    y = conv_bn_relu(y, w, f"{key}.refine.0", f"{key}.refine.1")
    y = conv_bn_relu(y, w, f"{key}.refine.4", f"{key}.refine.5")
    return convolve(y, w, f"{key}.classify")


@pytest.mark.parametrize("size", [(64, 96), (65, 81)])
def test_the_whole_network_computes_what_the_public_code_does(size: tuple[int, int]) -> None:
    network = pair()
    x = images(*size)

    with torch.no_grad():
        expected = forward(network.state_dict(), x, network.tasks)
        assert expected["depth"].shape == (2, 1, -(-size[0] // 4), -(-size[1] // 4))
        assert agree(network(x), expected)
        assert all(torch.equal(fx.symbolic_trace(network)(x)[task], network(x)[task]) for task in network.tasks)


def test_the_early_feature_is_the_one_before_fusion_and_of_the_stage_asked_for() -> None:
    network = pair(low_level_stage=3)
    seen: dict[str, torch.Tensor] = {}
    network.stages[2]["depth"].register_forward_hook(lambda layer, given, made: seen.update(stage=made))
    network.heads["depth"].reduce.register_forward_hook(lambda layer, given, made: seen.update(read=given[0]))

    output = network(images(64, 96))["depth"]

    assert seen["read"] is seen["stage"]
    assert output.shape == (2, 1, 8, 12)


@pytest.mark.parametrize("resize", ["half_pixel", "asymmetric"])
def test_the_pyramids_output_is_resized_in_the_networks_convention(resize: str) -> None:
    network, other = pair(resize=resize), pair(resize="align_corners")

    assert network.heads["depth"].resize.convention == resize
    assert not torch.equal(network(images(64, 96))["depth"], other(images(64, 96))["depth"])


def test_heads_of_a_shared_trunk_read_its_early_feature() -> None:
    network = pair("shared")

    outputs = network(images(65, 81))

    assert {task: output.shape[1:] for task, output in outputs.items()} == {
        "segmentation": (5, 17, 21),
        "depth": (1, 17, 21),
    }


def test_full_width_heads_have_the_public_codes_layers_in_the_order_of_computation() -> None:
    with torch.device("meta"):
        layers = narrow("resnet50", "none", (NORMALS,), backbone_options={"width": 1.0}, head="deeplab_v3plus").heads
        shapes = [
            tuple(w.shape) for key, w in layers["normals"].state_dict().items() if w.ndim == 4 or key == "classify.bias"
        ]

    branches = [(256, 2048, 1, 1), *[(256, 2048, 3, 3)] * 3, (256, 2048, 1, 1), (256, 1280, 1, 1)]
    decoder = [(48, 256, 1, 1), (256, 304, 3, 3), (256, 256, 3, 3), (3, 256, 1, 1), (3,)]
    assert shapes == branches + decoder


@pytest.mark.parametrize(
    ("backbone", "output_stride", "factors", "first", "others"),
    [
        ("resnet50", 16, (1, 2, 4), [2, 4, 8], [2, 4, 8]),
        ("resnet50", 8, (1, 1, 2), [4, 4, 8], [4, 4, 8]),
        ("resnet101", 32, (1, 2, 4), [1, 2, 4], [1, 2, 4]),
        ("resnet18", 16, (1, 2), [2, 4], [2, 2]),
    ],
)
def test_a_multi_grid_multiplies_the_dilations_of_the_last_layer(
    backbone: str, output_stride: int, factors: tuple[int, ...], first: list[int], others: list[int]
) -> None:
    stages = BACKBONES[backbone](width=NARROW, output_stride=output_stride, multi_grid=factors)
    plain = BACKBONES[backbone](width=NARROW, output_stride=output_stride)

    blocks = list(stages[4].get_submodule("layer4").children())
    assert [(block.conv2 if block.bottleneck else block.conv1).dilation[0] for block in blocks] == first
    assert [block.conv2.dilation[0] for block in blocks] == others
    assert str(stages[3]) == str(plain[3])


@pytest.mark.parametrize("factors", [(1, 2), (1, 2, 0), (1, 2, 1.5)])
def test_a_multi_grid_that_does_not_fit_is_one_sentence(factors: tuple[float, ...]) -> None:
    with pytest.raises(
        ConfigError, match=r"multi_grid: expected 3 whole factors from 1, one per block of layer4; got \["
    ):
        narrow("resnet50", "nddr", backbone_options={"multi_grid": factors})


@pytest.mark.parametrize("stage", [0, 6])
def test_an_early_stage_that_is_not_there_is_one_sentence(stage: int) -> None:
    with pytest.raises(ConfigError, match=f"low_level_stage: expected a stage of this backbone, 1 to 5; got {stage}"):
        pair(low_level_stage=stage)
