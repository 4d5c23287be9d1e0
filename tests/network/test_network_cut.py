"""VGG-16 cut after each convolution: 13 stages, whose poolings meet what a fusion layer made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from formulas import Weights, agree, convolve, normalise
from network_samples import NARROW, images, narrow, trained_looking

from nddr_deploy.errors import ConfigError
from nddr_deploy.network import BACKBONES, MultiTaskNetwork, load_backbone
from nddr_deploy.network.heads import LargeFov
from nddr_deploy.network.pools import halving_pool

FIRST, SECOND = "segmentation", "normals"
NUMBERS = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)  # vgg16_bn's, of the convolutions
HALVING, KEEPING = (2, 4, 7), 10  # stages, from 0, that a pooling begins
BN = {"bn_eps": 1e-3}
FUSIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "nddr": ("nddr", {"order": "conv-bn-relu", **BN}),
    "cross_stitch": ("cross_stitch", {"own": 0.9, "other": -0.6}),
    "single_side": ("nddr", {"order": "conv-bn", "single_side": SECOND, "own_first": True, **BN}),
    "single_side_reverse": ("nddr", {"order": "conv-bn", "single_side": FIRST, "own_first": True, **BN}),
}


def thirteen(fusion: str) -> MultiTaskNetwork:
    name, options = FUSIONS[fusion]
    network = narrow(
        "vgg16_deeplab",
        name,
        backbone_options={"cut": "convolution", "pool_padding": "zeros"},
        fusion_options=options,
        head="large_fov",
        head_options={"width": NARROW, "pools": True},
    )
    generator = torch.Generator().manual_seed(3)
    for name, weight in network.named_parameters():
        if name.startswith("fusions") and name.endswith("conv.weight"):  # start: a diagonal that hides many mistakes
            weight.data += 0.5 * torch.randn(weight.shape, generator=generator)
    return network


def forward(w: Weights, x: torch.Tensor, fusion: str, padding: float = 0.0) -> dict[str, torch.Tensor]:
    """The same network from the description of the public code's checkpoints."""
    features = {FIRST: x, SECOND: x}
    for stage, number in enumerate(NUMBERS):
        for task, value in features.items():
            if stage in HALVING:
                value = F.max_pool2d(F.pad(value, (0, 1, 0, 1), value=padding), 3, 2)
            if stage == KEEPING:
                value = F.max_pool2d(value, 3, 1, 1)
            prefix = f"stages.{stage}.{task}.features"
            value = convolve(value, w, f"{prefix}.{number}", rate=2 if stage >= 10 else 1)
            features[task] = normalise(value, w, f"{prefix}.{number + 1}", 1e-3).relu()
        features = fuse(w, stage, features, fusion)
    return {task: large_fov(w, f"heads.{task}", value) for task, value in features.items()}


def fuse(w: Weights, stage: int, features: dict[str, torch.Tensor], fusion: str) -> dict[str, torch.Tensor]:
    f1, f2 = features[FIRST], features[SECOND]
    if fusion == "cross_stitch":
        mix = w[f"fusions.{stage}.mix"].reshape(2, 2)
        return {FIRST: mix[0, 0] * f1 + mix[0, 1] * f2, SECOND: mix[1, 0] * f1 + mix[1, 1] * f2}

    def conv_bn(task: str, joined: list[torch.Tensor]) -> torch.Tensor:
        key = f"fusions.{stage}.layers.{task}"
        return normalise(convolve(torch.cat(joined, dim=1), w, f"{key}.conv"), w, f"{key}.bn", 1e-3)

    if fusion == "single_side":
        return {FIRST: f1, SECOND: conv_bn(SECOND, [f2, f1])}
    if fusion == "single_side_reverse":
        return {FIRST: conv_bn(FIRST, [f1, f2]), SECOND: f2}
    return {FIRST: conv_bn(FIRST, [f1, f2]).relu(), SECOND: conv_bn(SECOND, [f1, f2]).relu()}


def large_fov(w: Weights, key: str, x: torch.Tensor) -> torch.Tensor:
    x = F.max_pool2d(x, 3, 1, 1)
    real = F.avg_pool2d(torch.ones_like(x), 3, 1, 1)  # share of each window that lies in the map
    x = F.avg_pool2d(x, 3, 1, 1) / real
    x = normalise(convolve(x, w, f"{key}.fc6", rate=12), w, f"{key}.bn6", 1e-3).relu()
    x = normalise(convolve(x, w, f"{key}.fc7"), w, f"{key}.bn7", 1e-3).relu()
    return convolve(x, w, f"{key}.fc8")


@pytest.mark.parametrize("size", [(64, 48), (65, 51), (66, 90)])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_13_stages_compute_what_the_public_code_does(fusion: str, size: tuple[int, int]) -> None:
    network = thirteen(fusion)
    x = images(*size)

    with torch.no_grad():
        expected = forward(network.state_dict(), x, fusion)
        assert expected[FIRST].shape == (2, 5, size[0] // 8, size[1] // 8)
        assert agree(network(x), expected)


@pytest.mark.parametrize("fusion", ["cross_stitch", "single_side"])
def test_the_zeros_of_the_padding_count_where_a_fusion_makes_negative_maps(fusion: str) -> None:
    weights, x = thirteen(fusion).state_dict(), images(64, 48)

    with torch.no_grad():
        zeros, never = forward(weights, x, fusion), forward(weights, x, fusion, padding=float("-inf"))

    assert not agree(zeros, never, share=1e-2)


@pytest.mark.parametrize("side", [6, 7, 8, 9])
def test_zeros_are_one_more_row_and_column_also_beside_negative_values(side: int) -> None:
    x = -torch.rand(2, 3, side, side + 1) - 1

    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (0, 1), (0, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]

    np.testing.assert_array_equal(halving_pool("zeros")(x), windows.max(axis=(4, 5)))
    assert halving_pool("same")(x).max() < -1  # TensorFlow's padding is never the maximum


def test_13_stages_have_torchvisions_keys_and_publish_their_channels_and_strides() -> None:
    with torch.device("meta"):
        whole, parts = (
            BACKBONES["vgg16_deeplab"](**options) for options in ({}, {"cut": "convolution", "pool_padding": "same"})
        )

    assert [key for stage in parts for key in stage.state_dict()] == [
        key for stage in whole for key in stage.state_dict()
    ]
    assert [stage.channels for stage in parts] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert [stage.stride for stage in parts] == [2 if number in HALVING else 1 for number in range(13)]


def test_the_5_and_the_13_stages_are_one_network_where_nothing_is_fused() -> None:
    zeros, head = {"cut": "convolution", "pool_padding": "zeros"}, {"width": NARROW}
    five = narrow("vgg16_deeplab", "none", head="large_fov", head_options=head)
    thirteen = narrow(
        "vgg16_deeplab", "none", backbone_options=zeros, head="large_fov", head_options={**head, "pools": True}
    )

    weights = {key: value for stage in five.stages_of(SECOND) for key, value in stage.state_dict().items()}
    report = load_backbone(thirteen, weights, [SECOND])
    thirteen.heads.load_state_dict(five.heads.state_dict())

    assert report.missing == report.unused == ()
    assert torch.equal(thirteen(images(67, 81))[SECOND], five(images(67, 81))[SECOND])


def test_large_fov_may_begin_with_the_last_two_poolings() -> None:
    head = trained_looking(LargeFov(4, 3, width=NARROW, pools=True))
    x = torch.randn(2, 4, 7, 6)

    expected = large_fov({f"head.{key}": value for key, value in head.state_dict().items()}, "head", x)

    assert agree({"": head(x)}, {"": expected})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cut": "conv"}, "backbone_options.cut: 'conv' is unknown"),
        ({"cut": "convolution"}, "pool_padding: 'after' is for maps that come from a ReLU.* Choose 'zeros' or 'same'"),
        ({"cut": "convolution", "pool_padding": "zero"}, "pool_padding: 'zero' is unknown.*Did you mean 'zeros'"),
    ],
)
def test_a_cut_or_a_padding_that_cannot_be_is_one_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        narrow("vgg16_deeplab", "nddr", backbone_options=options)
