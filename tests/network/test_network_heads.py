from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from network_samples import AGE, GENDER, NARROW, narrow, trained_looking

from nddr_deploy.network import BACKBONES
from nddr_deploy.network.heads import ASPP, HEADS, Classifier, DeeplabV2, LargeFov, PooledLinear


@pytest.mark.parametrize("name", HEADS)
def test_every_head_makes_its_outputs_at_odd_sizes(name: str) -> None:
    options = {} if name in ("deeplab_v2", "conv1x1", "pooled_linear") else {"width": NARROW}
    reads_early = HEADS[name].low_level_stage is not None
    known = {"stages": BACKBONES["resnet18"](width=NARROW), "resize": "half_pixel"} if reads_early else {}
    head = trained_looking(HEADS[name](8, 5, **options, **known))

    output = head(torch.randn(3, 8, 9, 13), *([torch.randn(3, 4, 9, 13)] if reads_early else []))

    assert output.shape == ((3, 5, 9, 13) if head.output == "dense" else (3, 5))
    assert torch.isfinite(output).all()


def test_large_fov_is_three_convolutions_with_the_released_codes_batchnorm() -> None:
    head = LargeFov(512, 40)

    shapes = {key: tuple(value.shape) for key, value in head.state_dict().items() if key.startswith("fc")}

    assert shapes == {
        "fc6.weight": (1024, 512, 3, 3),
        "fc7.weight": (1024, 1024, 1, 1),
        "fc8.weight": (40, 1024, 1, 1),
        "fc8.bias": (40,),
    }
    assert head.fc6.dilation == head.fc6.padding == (12, 12)
    assert head.bn6.eps == head.bn7.eps == 1e-3
    assert head.dropout.p == 0.5
    plain = LargeFov(8, 4, width=NARROW, batchnorm=False)
    assert plain.fc6.bias is not None
    assert "bn6.weight" not in plain.state_dict()


def test_large_fov_computes_conv_bn_relu_twice_then_a_convolution() -> None:
    head = trained_looking(LargeFov(4, 3, width=NARROW))
    x = torch.randn(2, 4, 15, 14)

    def conv_bn_relu(x: torch.Tensor, conv: torch.nn.Conv2d, bn: torch.nn.BatchNorm2d, rate: int) -> torch.Tensor:
        y = F.conv2d(x, conv.weight, padding=rate, dilation=12) if rate else F.conv2d(x, conv.weight)
        return F.batch_norm(y, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=1e-3).relu()

    y = conv_bn_relu(conv_bn_relu(x, head.fc6, head.bn6, 12), head.fc7, head.bn7, 0)

    torch.testing.assert_close(head(x), F.conv2d(y, head.fc8.weight, head.fc8.bias), rtol=0, atol=1e-5)


def test_deeplab_v2_sums_four_dilated_convolutions_with_bias() -> None:
    head = trained_looking(DeeplabV2(4, 3))
    x = torch.randn(1, 4, 20, 21)

    expected = sum(
        F.conv2d(x, branch.weight, branch.bias, padding=rate, dilation=rate)
        for branch, rate in zip(head.branches, (6, 12, 18, 24), strict=True)
    )

    torch.testing.assert_close(head(x), expected, rtol=0, atol=1e-6)


def test_aspp_has_torchvisions_keys() -> None:
    head = ASPP(512, 21)
    shapes = {key: tuple(v.shape) for key, v in head.state_dict().items() if v.ndim == 4 or key == "4.bias"}

    assert shapes == {
        "0.convs.0.0.weight": (256, 512, 1, 1),
        "0.convs.1.0.weight": (256, 512, 3, 3),
        "0.convs.2.0.weight": (256, 512, 3, 3),
        "0.convs.3.0.weight": (256, 512, 3, 3),
        "0.convs.4.1.weight": (256, 512, 1, 1),
        "0.project.0.weight": (256, 1280, 1, 1),
        "1.weight": (256, 256, 3, 3),
        "4.weight": (21, 256, 1, 1),
        "4.bias": (21,),
    }
    assert {"0.convs.0.1.weight", "0.convs.4.2.weight", "0.project.1.weight", "2.weight"} <= set(head.state_dict())


def test_aspp_concatenates_branches_and_the_global_mean_in_order() -> None:
    head = trained_looking(ASPP(4, 3, width=NARROW, rates=(2, 3, 5)))
    x = torch.randn(2, 4, 9, 7)
    weights = head.state_dict()

    def conv_bn_relu(x: torch.Tensor, conv: str, bn: str, rate: int = 0) -> torch.Tensor:
        y = F.conv2d(x, weights[f"{conv}.weight"], padding=rate, dilation=max(rate, 1))
        values = (weights[f"{bn}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *values, eps=1e-5).relu()

    branches = [conv_bn_relu(x, f"0.convs.{n}.0", f"0.convs.{n}.1", rate) for n, rate in enumerate((0, 2, 3, 5))]
    mean = conv_bn_relu(x.mean(dim=(2, 3), keepdim=True), "0.convs.4.1", "0.convs.4.2").repeat(1, 1, 9, 7)
    y = conv_bn_relu(torch.cat([*branches, mean], dim=1), "0.project.0", "0.project.1")
    y = F.conv2d(conv_bn_relu(y, "1", "2", 1), weights["4.weight"], weights["4.bias"])

    torch.testing.assert_close(head(x), y, rtol=0, atol=1e-5)


def test_the_classifier_has_vggs_numbers_and_averages_to_a_grid() -> None:
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in Classifier(512, 100).state_dict().items()}
    assert shapes["classifier.0.weight"] == (4096, 512 * 49)
    assert shapes["classifier.3.weight"] == (4096, 4096)
    assert shapes["classifier.6.weight"] == (100, 4096)

    head = Classifier(2, 3, width=1 / 256, grid=2).eval()
    x = torch.randn(1, 2, 4, 6)
    grid = torch.stack([x[:, :, r : r + 2, c : c + 3].mean(dim=(2, 3)) for r in (0, 2) for c in (0, 3)], dim=2)
    torch.testing.assert_close(head(x), head.classifier(grid.flatten(1)), rtol=0, atol=1e-6)


def test_pooled_linear_is_the_global_mean_and_one_layer() -> None:
    head = PooledLinear(6, 4)
    x = torch.randn(2, 6, 3, 5)

    torch.testing.assert_close(head(x), F.linear(x.mean(dim=(2, 3)), head.fc.weight, head.fc.bias))


@pytest.mark.parametrize("pooled_head", ["classifier", "pooled_linear"])
def test_pooled_tasks_of_faces_make_vectors(pooled_head: str) -> None:
    options = {"width": 1 / 256, "grid": 2} if pooled_head == "classifier" else {}
    network = narrow("alexnet", "nddr", (AGE, GENDER), pooled_head=pooled_head, pooled_head_options=options)

    outputs = network(torch.randn(3, 3, 65, 70))

    assert {task: output.shape for task, output in outputs.items()} == {"age": (3, 100), "gender": (3, 2)}
