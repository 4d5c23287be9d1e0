from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from network_samples import NARROW, trained_looking

from nddr_deploy.network.backbones import BACKBONES
from nddr_deploy.network.pools import halving_pool
from nddr_deploy.network.resnet import Block
from nddr_deploy.network.stage import Stage

BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def shapes(stages: list[Stage]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for stage in stages for key, tensor in stage.state_dict().items()}


def run(stages: list[Stage], x: torch.Tensor) -> list[torch.Tensor]:
    outputs = []
    for stage in stages:
        x = stage.eval()(x)
        outputs.append(x)
    return outputs


def conv_keys(numbers: list[int], widths: list[int], kernels: list[int], bias: bool) -> dict[str, tuple[int, ...]]:
    keys: dict[str, tuple[int, ...]] = {}
    for number, source, target, kernel in zip(numbers, [3, *widths], widths, kernels, strict=False):
        keys[f"features.{number}.weight"] = (target, source, kernel, kernel)
        if bias:
            keys[f"features.{number}.bias"] = (target,)
    return keys


def bn_keys(prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.{part}": () if part == "num_batches_tracked" else (channels,) for part in BN}


VGG_WIDTHS = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
VGG16 = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]  # torchvision's numbers of the convolutions
VGG16_BN = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]


def test_vgg16_has_torchvisions_keys_and_shapes() -> None:
    with torch.device("meta"):
        found = shapes(BACKBONES["vgg16"]())

    assert found == conv_keys(VGG16, VGG_WIDTHS, [3] * 13, bias=True)


@pytest.mark.parametrize(("backbone", "bias"), [("vgg16", True), ("vgg16_deeplab", False)])
def test_vgg16_with_batchnorm_has_torchvisions_keys_of_vgg16_bn(backbone: str, bias: bool) -> None:
    with torch.device("meta"):
        found = shapes(BACKBONES[backbone](batchnorm=True))

    expected = conv_keys(VGG16_BN, VGG_WIDTHS, [3] * 13, bias=bias)
    for number, channels in zip(VGG16_BN, VGG_WIDTHS, strict=True):
        expected |= bn_keys(f"features.{number + 1}", channels)
    assert found == expected


def test_alexnet_has_torchvisions_keys_and_shapes() -> None:
    found = shapes(BACKBONES["alexnet"]())

    assert found == conv_keys([0, 3, 6, 8, 10], [64, 192, 384, 256, 256], [11, 5, 3, 3, 3], bias=True)


def resnet_keys(blocks: tuple[int, ...], bottleneck: bool) -> dict[str, tuple[int, ...]]:
    """torchvision's state dict without fc."""
    keys = {"conv1.weight": (64, 3, 7, 7), **bn_keys("bn1", 64)}
    source = 64
    for layer, count in enumerate(blocks, start=1):
        width = 64 * 2 ** (layer - 1)
        target = 4 * width if bottleneck else width
        for block in range(count):
            name = f"layer{layer}.{block}"
            convs = (
                [(width, source, 1), (width, width, 3), (target, width, 1)]
                if bottleneck
                else [(width, source, 3), (target, width, 3)]
            )
            for number, (outputs, inputs, kernel) in enumerate(convs, start=1):
                keys[f"{name}.conv{number}.weight"] = (outputs, inputs, kernel, kernel)
                keys |= bn_keys(f"{name}.bn{number}", outputs)
            if block == 0 and (layer > 1 or bottleneck):
                keys[f"{name}.downsample.0.weight"] = (target, source, 1, 1)
                keys |= bn_keys(f"{name}.downsample.1", target)
            source = target
    return keys


@pytest.mark.parametrize(
    ("backbone", "blocks", "bottleneck", "keys"),
    [
        ("resnet18", (2, 2, 2, 2), False, 120),
        ("resnet50", (3, 4, 6, 3), True, 318),
        ("resnet101", (3, 4, 23, 3), True, 624),
    ],
)
@pytest.mark.parametrize("output_stride", [8, 32])
def test_resnets_have_torchvisions_keys_and_shapes(
    backbone: str, blocks: tuple[int, ...], bottleneck: bool, keys: int, output_stride: int
) -> None:
    with torch.device("meta"):
        found = shapes(BACKBONES[backbone](output_stride=output_stride))

    assert found == resnet_keys(blocks, bottleneck)
    assert len(found) == keys


@pytest.mark.parametrize(
    ("stem_pool", "first_sizes"), [("after_fusion", [(33, 49), (17, 25)]), ("before_fusion", [(17, 25), (17, 25)])]
)
def test_the_stem_pool_of_a_resnet_is_after_or_before_the_first_fusion(
    stem_pool: str, first_sizes: list[tuple[int, int]]
) -> None:
    stages = BACKBONES["resnet18"](width=NARROW, stem_pool=stem_pool)

    outputs = run(stages, torch.randn(1, 3, 65, 97))

    assert [tuple(output.shape[2:]) for output in outputs[:2]] == first_sizes
    assert outputs[-1].shape[2:] == (3, 4)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize(("output_stride", "size"), [(8, (9, 13)), (16, (5, 7)), (32, (3, 4))])
def test_a_dilated_resnet_keeps_the_output_stride_asked_for(
    backbone: str, output_stride: int, size: tuple[int, int]
) -> None:
    stages = BACKBONES[backbone](width=NARROW, output_stride=output_stride)

    output = run(stages, torch.randn(1, 3, 65, 97))[-1]

    assert output.shape[2:] == size  # every halving rounds up
    assert np.prod([stage.stride for stage in stages]) == output_stride


@pytest.mark.parametrize(
    ("backbone", "first", "others"), [("resnet18", "conv1", "conv2"), ("resnet50", "conv2", "conv2")]
)
def test_the_first_3x3_convolution_of_a_dilated_layer_keeps_the_dilation_before(
    backbone: str, first: str, others: str
) -> None:
    stages = BACKBONES[backbone](width=NARROW, output_stride=8)

    for layer, dilation_first, dilation, stride in ((2, 1, 1, 2), (3, 1, 2, 1), (4, 2, 4, 1)):
        blocks = list(stages[layer].get_submodule(f"layer{layer}").children())
        convs = [getattr(blocks[0], first), *(getattr(block, others) for block in blocks[1:])]
        assert [conv.dilation[0] for conv in convs] == [dilation_first] + [dilation] * (len(blocks) - 1)
        assert all(conv.padding == conv.dilation for conv in convs)
        assert convs[0].stride == (stride, stride) == blocks[0].downsample[0].stride
    if backbone == "resnet18":
        assert stages[4].get_submodule("layer4.0.conv2").dilation == (4, 4)


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_block_has_relu_after_all_convolutions_but_the_last_and_after_the_sum(
    bottleneck: bool, stride: int
) -> None:
    options = {"dilations": (2, 3), "bn_eps": 1e-2, "bn_momentum": 0.1}
    block = trained_looking(Block(4, 8, 12, bottleneck=bottleneck, stride=stride, **options))
    x = torch.randn(2, 4, 9, 8)

    def conv_bn(
        x: torch.Tensor, conv: torch.nn.Conv2d, bn: torch.nn.BatchNorm2d, stride: int, rate: int
    ) -> torch.Tensor:
        padding = rate if conv.kernel_size == (3, 3) else 0
        y = F.conv2d(x, conv.weight, stride=stride, padding=padding, dilation=rate)
        return F.batch_norm(y, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=1e-2)

    if bottleneck:
        y = conv_bn(x, block.conv1, block.bn1, 1, 1).relu()
        y = conv_bn(y, block.conv2, block.bn2, stride, 2).relu()
        y = conv_bn(y, block.conv3, block.bn3, 1, 1)
    else:
        y = conv_bn(x, block.conv1, block.bn1, stride, 2).relu()
        y = conv_bn(y, block.conv2, block.bn2, 1, 3)
    expected = (y + conv_bn(x, *block.downsample, stride, 1)).relu()
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-5)  # float32


@pytest.mark.parametrize(("side", "after", "same"), [(65, 8, 9), (321, 40, 41), (64, 8, 8), (67, 8, 9), (96, 12, 12)])
def test_deeplabs_stride_8_rounds_odd_sides_down_or_up(side: int, after: int, same: int) -> None:
    for padding, expected in (("after", after), ("same", same)):
        stages = BACKBONES["vgg16_deeplab"](width=NARROW, pool_padding=padding)

        assert run(stages, torch.randn(1, 3, side, 16))[-1].shape[2:] == (expected, 2)


@pytest.mark.parametrize("side", [6, 7, 8, 9])
def test_halving_pools_pad_like_the_code_they_come_from(side: int) -> None:
    x = torch.randn(2, 3, side, side + 1).relu()

    def reference(before: tuple[int, int], after: tuple[int, int]) -> np.ndarray:
        padded = np.pad(x.numpy(), ((0, 0), (0, 0), (before[0], after[0]), (before[1], after[1])))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
        return windows.max(axis=(4, 5))

    odd = (side % 2, (side + 1) % 2)
    np.testing.assert_array_equal(halving_pool("after")(x), reference((0, 0), (1, 1)))
    np.testing.assert_array_equal(halving_pool("same")(x), reference(odd, (1, 1)))


def test_deeplabs_last_poolings_keep_the_size_and_average_only_real_pixels() -> None:
    stages = BACKBONES["vgg16_deeplab"](width=NARROW)
    fourth, fifth = (list(stage.get_submodule("features").children()) for stage in stages[3:])
    x = torch.randn(1, 2, 4, 5)

    maximum, average = fourth[-1](x), fifth[-1](x)

    for row, rows in ((0, slice(0, 2)), (2, slice(1, 4))):
        for column, columns in ((0, slice(0, 2)), (2, slice(1, 4)), (4, slice(3, 5))):
            assert torch.equal(maximum[0, :, row, column], x[0, :, rows, columns].amax(dim=(1, 2)))
            torch.testing.assert_close(average[0, :, row, column], x[0, :, rows, columns].mean(dim=(1, 2)))
    assert isinstance(fifth[-2], torch.nn.MaxPool2d)
    assert fifth[-2].stride == 1


def test_deeplabs_last_stage_is_dilated_and_its_batchnorm_has_the_eps_of_the_released_code() -> None:
    stages = BACKBONES["vgg16_deeplab"](width=NARROW)

    for number, stage in enumerate(stages):
        convs = [layer for layer in stage.modules() if isinstance(layer, torch.nn.Conv2d)]
        assert {conv.dilation[0] for conv in convs} == {2 if number == 4 else 1}
        assert {bn.eps for bn in stage.modules() if isinstance(bn, torch.nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "timm"])
def test_stages_publish_the_channels_they_have(backbone: str) -> None:
    stages = BACKBONES[backbone](width=0.1)

    outputs = run(stages, torch.randn(1, 3, 64, 64))

    assert len(stages) == 5
    assert [output.shape[1] for output in outputs] == [stage.channels for stage in stages]
    assert all(stage.channels % 4 == 0 for stage in stages)
