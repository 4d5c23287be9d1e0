from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from network_samples import DENSE, images, narrow, trained_looking

from nddr_deploy.network.backbones import BACKBONES
from nddr_deploy.network.resize import resize_bilinear
from nddr_deploy.network.shortcut import DepthMixing, Shortcut
from nddr_deploy.network.stage import Stage

TASKS = ("segmentation", "normals")


def stages() -> list[Stage]:
    return [Stage({}, channels, stride) for channels, stride in ((4, 2), (8, 2), (6, 1))]


def outputs_of_stages() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(4)
    shapes = ((4, 12, 14), (8, 6, 7), (6, 6, 7))
    return [{task: torch.randn(2, *shape, generator=generator) for task in TASKS} for shape in shapes]


@pytest.mark.parametrize("convention", ["half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize("order", ["conv", "conv-bn-relu", "conv-relu-bn"])
def test_the_shortcut_resizes_concatenates_in_stage_order_and_reduces(order: str, convention: str) -> None:
    shortcut = trained_looking(Shortcut(TASKS, stages(), convention, False, order=order, bn_eps=1e-2))
    outputs = outputs_of_stages()

    found = shortcut(outputs)

    for task in TASKS:
        layer = shortcut.layers[task]
        x = torch.cat([resize_bilinear(stage[task], 6, 7, convention) for stage in outputs], dim=1)
        for step in order.split("-"):
            if step == "conv":
                x = F.conv2d(x, layer.conv.weight, layer.conv.bias)
            elif step == "relu":
                x = x.relu()
            else:
                bn = layer.bn
                x = F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=1e-2)
        torch.testing.assert_close(found[task], x, rtol=0, atol=1e-5)


def test_one_shared_module_serves_every_task_with_the_same_weights() -> None:
    shared = Shortcut(TASKS, stages(), "half_pixel", True)
    outputs = outputs_of_stages()
    for stage in outputs:
        stage["normals"] = stage["segmentation"]

    found = shared(outputs)

    assert list(shared.layers) == ["shared"]
    assert torch.equal(found["normals"], found["segmentation"])


def test_the_paper_reduces_to_512_channels_with_a_bias_for_vgg() -> None:
    with torch.device("meta"):
        shortcut = Shortcut(TASKS, BACKBONES["vgg16_deeplab"](), "half_pixel", False)

    for task in TASKS:
        assert shortcut.layers[task].conv.weight.shape == (512, 64 + 128 + 256 + 512 + 512, 1, 1)
        assert shortcut.layers[task].conv.bias.shape == (512,)
    assert shortcut.collect.smaller_later == [True, True, False, False, False]


@pytest.mark.parametrize("shortcut", ["per_task", "shared"])
def test_a_shared_trunk_can_have_a_shortcut(shortcut: str) -> None:
    network = narrow("resnet18", "shared", DENSE, shortcut=shortcut)

    assert list(network.shortcut.layers) == (["shared"] if shortcut == "shared" else [task.name for task in DENSE])
    assert network(images(33, 47))["depth"].shape == (2, 1, 2, 2)


def test_the_head_reads_the_shortcut_and_it_reads_early_stages() -> None:
    network = narrow("vgg16", "nddr", shortcut="per_task")
    before = network(images(64, 64))
    network.shortcut.layers["normals"].conv.weight.data[:, :4].zero_()  # the first stage has 4 channels

    after = network(images(64, 64))

    assert not torch.equal(after["normals"], before["normals"])
    assert torch.equal(after["segmentation"], before["segmentation"])


def test_depth_mixing_starts_with_the_last_stage_alone() -> None:
    mixing = DepthMixing(TASKS, stages(), "half_pixel")
    outputs = outputs_of_stages()

    found = mixing(outputs)

    assert all(torch.equal(found[task], outputs[-1][task]) for task in TASKS)


def test_depth_mixing_is_the_sum_of_beta_times_each_stage() -> None:
    mixing = DepthMixing(TASKS, stages(), "align_corners")
    outputs = outputs_of_stages()
    layer = mixing.layers["normals"]
    layer.beta.data.copy_(torch.tensor([0.3, -0.5, 0.8]))

    found = mixing(outputs)["normals"]

    first, second, last = (resize_bilinear(stage["normals"], 6, 7, "align_corners") for stage in outputs)
    expected = 0.3 * layer.reduce[0](first) - 0.5 * layer.reduce[1](second) + 0.8 * last
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_depth_mixing_and_the_shortcut_can_be_had_together() -> None:
    options = {"depth_mixing": True}
    plain = narrow("vgg16", "sluice", shortcut="per_task")
    both = narrow("vgg16", "sluice", shortcut="per_task", fusion_options=options)
    missing = both.load_state_dict(plain.state_dict(), strict=False).missing_keys

    assert all(key.startswith("depth_mixing.") for key in missing)
    assert torch.equal(both(images(64, 64))["normals"], plain(images(64, 64))["normals"])
