"""Heads that take a last map of one size only, and so images of a few sizes only."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from network_samples import AGE, GENDER, SEGMENTATION, images, narrow

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.network import MultiTaskNetwork


def faces(backbone: str = "resnet18", map_side: int | None = 7, **options: object) -> MultiTaskNetwork:
    return narrow(backbone, "nddr", (AGE, GENDER), backbone_options=options, pooled_head_options={"map_side": map_side})


@pytest.mark.parametrize(
    ("backbone", "options", "map_side", "sides"),
    [
        ("resnet50", {"stem_pool": "before_fusion"}, 7, (193, 224)),
        ("resnet18", {"output_stride": 8}, 5, (33, 40)),
        ("vgg16", {}, 2, (64, 95)),
        ("vgg16_deeplab", {"pool_padding": "after"}, 1, (8, 15)),
        ("vgg16_deeplab", {"pool_padding": "same"}, 2, (9, 16)),
        ("alexnet", {}, 1, (63, 94)),
    ],
)
def test_exactly_the_images_with_that_map_are_taken(
    backbone: str, options: dict[str, object], map_side: int, sides: tuple[int, int]
) -> None:
    network = faces(backbone, map_side, **options)

    assert (network.minimum_side, network.maximum_side) == sides
    for height, width in (sides, sides[::-1]):
        assert network(images(height, width, batch=1))["gender"].shape == (1, 2)
    for height, width in ((sides[0] - 1, sides[1]), (sides[0], sides[1] + 1)):
        sentence = f"images of {sides[0]}x{sides[0]} to {sides[1]}x{sides[1]} pixels; got {height}x{width}"
        with pytest.raises(InputError, match=sentence):
            network(images(height, width, batch=1))


def test_it_computes_an_average_pool_of_that_side_and_one_layer() -> None:
    network = faces(map_side=2)
    seen: list[torch.Tensor] = []
    network.fusions[4].layers["gender"].register_forward_hook(lambda layer, given, made: seen.append(made))

    output = network(images(33, 64))["gender"]

    linear = network.heads["gender"].fc
    expected = F.linear(F.avg_pool2d(seen[0], kernel_size=2, stride=1).flatten(1), linear.weight, linear.bias)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)  # float32


def test_without_a_map_side_there_is_no_largest_image() -> None:
    network = faces(map_side=None)

    assert (network.minimum_side, network.maximum_side) == (32, None)
    assert network(images(300, 32, batch=1))["age"].shape == (1, 100)


def test_a_dense_task_beside_it_takes_the_same_images() -> None:
    network = narrow("resnet18", "nddr", (SEGMENTATION, GENDER), pooled_head_options={"map_side": 2})

    assert network(images(40, 64))["segmentation"].shape == (2, 5, 2, 2)
    with pytest.raises(InputError, match="33x33 to 64x64 pixels; got 40x65"):
        network.check_size((40, 65))


@pytest.mark.parametrize("map_side", [0, -1, 1.5, True])
def test_a_map_side_that_cannot_be_is_one_sentence(map_side: object) -> None:
    with pytest.raises(ConfigError, match="map_side: expected a number of pixels from 1; got"):
        faces(map_side=map_side)  # type: ignore[arg-type]


def test_a_map_side_that_no_image_has_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="map_side: no image has a last map of 100000000 pixels"):
        faces(map_side=100_000_000)
