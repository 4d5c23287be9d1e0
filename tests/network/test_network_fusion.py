from __future__ import annotations

import math

import pytest
import torch
from network_samples import DENSE, narrow, trained_looking

from nddr_deploy.errors import ConfigError
from nddr_deploy.network.fusion import NDDR, CrossStitch, Fusion, Sluice

TWO = ("segmentation", "normals")
THREE = ("segmentation", "normals", "depth")


def pixel(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value)


def maps(streams: tuple[str, ...], channels: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {stream: torch.randn(2, channels, 3, 5, generator=generator) for stream in streams}


def nddr_with(weights: dict[str, torch.Tensor]) -> NDDR:
    """An NDDR layer without BatchNorm that has the given (C, K * C) weights."""
    layer = NDDR(tuple(weights), next(iter(weights.values())).shape[0], order="conv")
    for stream, weight in weights.items():
        layer.layers[stream].conv.weight.data.copy_(weight[:, :, None, None])
    return layer


def assert_equal_outputs(one: Fusion, other: Fusion, streams: tuple[str, ...], channels: int) -> None:
    features = maps(streams, channels)
    expected, found = one(features), other(features)
    for stream in streams:
        torch.testing.assert_close(found[stream], expected[stream], rtol=0, atol=1e-5)  # float32 sums in another order


def test_nddr_starts_as_a_weighted_sum_that_favours_each_tasks_own_features() -> None:
    layer = NDDR(TWO, channels=1, own=0.9, other=0.1, order="conv").eval()

    fused = layer({"segmentation": pixel(10.0), "normals": pixel(2.0)})

    assert fused["segmentation"].item() == pytest.approx(9.2)
    assert fused["normals"].item() == pytest.approx(2.8)


def test_the_diagonal_start_is_eq_3_and_every_other_task_gets_the_full_beta() -> None:
    layer = NDDR(THREE, channels=4, own=0.8, other=0.05)

    weight = layer.layers["normals"].conv.weight[:, :, 0, 0]

    eye = torch.eye(4)
    assert torch.equal(weight, torch.cat([0.05 * eye, 0.8 * eye, 0.05 * eye], dim=1))


def test_the_xavier_start_is_uniform_within_glorots_bound() -> None:
    weight = NDDR(TWO, channels=64, start="xavier").layers["normals"].conv.weight

    bound = math.sqrt(6 / (128 + 64))
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)  # of 8192 samples


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("order", ["bn-conv", "conv-bn-relu", "conv-relu-bn", "conv-bn", "conv"])
def test_nddr_computes_its_order(order: str, bias: bool) -> None:
    layer = trained_looking(NDDR(TWO, channels=4, order=order, bias=bias, start="xavier", bn_eps=1e-2))
    features = maps(TWO, 4)

    fused = layer(features)

    for stream in TWO:
        part = layer.layers[stream]
        expected = torch.cat([features["segmentation"], features["normals"]], dim=1)
        for step in order.split("-"):
            if step == "conv":
                expected = torch.einsum("oi,nihw->nohw", part.conv.weight[:, :, 0, 0], expected)
                expected = expected + (part.conv.bias[:, None, None] if bias else 0)
            elif step == "relu":
                expected = expected.clamp(min=0)
            else:
                mean, var, scale, shift = (
                    values[:, None, None]
                    for values in (part.bn.running_mean, part.bn.running_var, part.bn.weight, part.bn.bias)
                )
                expected = (expected - mean) / (var + 1e-2).sqrt() * scale + shift
        torch.testing.assert_close(fused[stream], expected, rtol=0, atol=1e-5)  # float32
        assert (part.conv.bias is not None) == bias


def test_the_papers_batchnorm_normalises_all_concatenated_channels_for_each_task_by_itself() -> None:
    layer = NDDR(THREE, channels=8)

    assert [layer.layers[stream].bn.num_features for stream in THREE] == [24, 24, 24]
    assert layer.layers["normals"].bn is not layer.layers["depth"].bn


def test_single_sided_fusion_passes_the_other_task_unchanged() -> None:
    layer = trained_looking(NDDR(TWO, channels=4, order="conv-bn", single_side=["normals"], own_first=True))
    layer.layers["normals"].conv.weight.data.uniform_(-1, 1)
    features = maps(TWO, 4)

    fused = layer(features)

    own_first = torch.cat([features["normals"], features["segmentation"]], dim=1)
    assert torch.equal(fused["segmentation"], features["segmentation"])
    assert torch.equal(fused["normals"], layer.layers["normals"](own_first))
    assert list(layer.layers) == ["normals"]
    assert list(fused) == list(TWO)


def test_own_first_puts_own_features_before_the_others_in_order() -> None:
    layer = NDDR(THREE, channels=1, order="conv", own_first=True)

    assert layer.inputs["normals"] == ("normals", "segmentation", "depth")
    assert torch.allclose(layer.layers["normals"].conv.weight.flatten(), torch.tensor([0.9, 0.1, 0.1]))


def test_vgg16s_nddr_layers_add_1220608_weights_per_task() -> None:
    layers = [NDDR(TWO, channels) for channels in (64, 128, 256, 512, 512)]

    weights = sum(layer.layers["segmentation"].conv.weight.numel() for layer in layers)

    assert weights == 1_220_608


@pytest.mark.parametrize("streams", [TWO, THREE])
@pytest.mark.parametrize("per_channel", [False, True])
def test_cross_stitch_is_an_nddr_layer_with_scalars_on_the_diagonals_of_its_blocks(
    streams: tuple[str, ...], per_channel: bool
) -> None:
    stitch = CrossStitch(streams, channels=6, per_channel=per_channel)
    stitch.mix.data.uniform_(-1, 1)

    def block(target: int, source: int) -> torch.Tensor:
        return torch.diag(stitch.mix[target, source].flatten().expand(6))

    nddr = nddr_with(
        {
            name: torch.cat([block(target, source) for source in range(len(streams))], dim=1)
            for target, name in enumerate(streams)
        }
    )

    assert_equal_outputs(stitch, nddr, streams, 6)


@pytest.mark.parametrize("streams", [TWO, THREE])
def test_sluice_is_an_nddr_layer_with_scalars_on_the_diagonals_of_2_by_2_sub_blocks(streams: tuple[str, ...]) -> None:
    sluice = Sluice(streams, channels=6)
    sluice.mix.data.uniform_(-1, 1)

    kron = torch.kron(sluice.mix.detach(), torch.eye(3))  # (K * C, K * C)
    nddr = nddr_with({name: kron[6 * number : 6 * (number + 1)] for number, name in enumerate(streams)})

    assert_equal_outputs(sluice, nddr, streams, 6)


def test_cross_stitch_and_sluice_start_where_the_definitions_say() -> None:
    assert torch.allclose(CrossStitch(TWO, 4).mix.flatten(), torch.tensor([0.9, 0.1, 0.1, 0.9]))
    mix = Sluice(THREE, 4).mix
    assert torch.allclose(mix.diagonal(), torch.tensor(0.9))
    assert mix[0, 1].item() == pytest.approx(0.1 / 5)
    assert mix.sum(dim=1).tolist() == pytest.approx([1.0] * 6)


def test_cross_stitch_trains_only_its_scalars() -> None:
    assert sum(p.numel() for p in CrossStitch(THREE, 64).parameters()) == 9
    assert sum(p.numel() for p in CrossStitch(THREE, 64, per_channel=True).parameters()) == 9 * 64
    assert sum(p.numel() for p in Sluice(THREE, 64).parameters()) == 36


@pytest.mark.parametrize("backbone", ["vgg16", "resnet18", "resnet50"])
def test_the_sluice_penalty_is_the_squared_product_of_the_halves_filters(backbone: str) -> None:
    network = narrow(backbone, "sluice", fusion_options={"orthogonality": 0.5})
    last = {"vgg16": "features.{}", "resnet18": "layer{}.1.conv2", "resnet50": "layer{}.{}.conv3"}[backbone]

    found = network.penalties()["fusion"].item()

    expected = 0.0
    for stage in range(5):
        name = (
            last.format((2, 7, 14, 21, 28)[stage])
            if backbone == "vgg16"
            else last.format(stage, (0, 2, 3, 5, 2)[stage])
        )
        if stage == 0 and backbone != "vgg16":
            name = "conv1"
        for stream in TWO:
            weight = network.state_dict()[f"stages.{stage}.{stream}.{name}.weight"].double()
            g1, g2 = weight.flatten(1).T.chunk(2, dim=1)  # filters as columns
            expected += 0.5 * (g1.T @ g2).norm().item() ** 2
    assert found == pytest.approx(expected, rel=1e-5)


def test_an_odd_number_of_channels_has_no_halves() -> None:
    with pytest.raises(ConfigError, match="halves the channels; got 5"):
        Sluice(TWO, 5)


def test_every_fusion_needs_two_streams_but_none() -> None:
    for layer in (NDDR, CrossStitch, Sluice):
        with pytest.raises(ConfigError, match="at least 2 tasks; got 1: depth"):
            layer(("depth",), 4)
    assert narrow("vgg16", "none", DENSE[:1]).tasks == ("segmentation",)
