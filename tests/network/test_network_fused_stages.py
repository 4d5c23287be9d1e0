"""A fusion layer after some stages only."""

from __future__ import annotations

import pytest
import torch
from network_samples import DENSE, images, narrow

from nddr_deploy.errors import ConfigError
from nddr_deploy.network import NetworkConfig
from nddr_deploy.network.fusion import NoFusion


@pytest.mark.parametrize("fusion", ["nddr", "cross_stitch", "sluice"])
@pytest.mark.parametrize("fused", [(1,), (2, 4), [3, 4, 5]])
def test_features_are_fused_after_the_named_stages_and_pass_elsewhere(fusion: str, fused: tuple[int, ...]) -> None:
    network = narrow("resnet18", fusion, DENSE, fused_stages=fused)
    features = dict.fromkeys(network.tasks, images(65, 81))

    for number in range(5):
        features = {task: network.stages[number][task](x) for task, x in features.items()}
        if number + 1 in fused:
            features = network.fusions[number](features)

    outputs = network(images(65, 81))
    assert [not isinstance(layer, NoFusion) for layer in network.fusions] == [n in fused for n in range(1, 6)]
    assert all(torch.equal(outputs[task], network.heads[task](features[task])) for task in network.tasks)


def test_all_stages_named_are_the_same_as_none_named() -> None:
    named, default = (narrow("resnet18", "nddr", fused_stages=fused) for fused in ((1, 2, 3, 4, 5), None))

    assert all(torch.equal(named.state_dict()[key], value) for key, value in default.state_dict().items())


def test_a_shortcut_collects_the_outputs_of_all_stages() -> None:
    network = narrow("vgg16", "nddr", shortcut="per_task", fused_stages=(5,))

    assert network.shortcut.layers["normals"].conv.in_channels == sum(
        stage.channels for stage in network.stages_of("normals")
    )
    assert network(images(32, 40))["normals"].shape == (2, 3, 1, 1)


def test_settings_from_before_fused_stages_mean_all() -> None:
    values = NetworkConfig(backbone="resnet18").to_dict()
    del values["fused_stages"]

    assert NetworkConfig.from_dict(values).fused_stages is None


@pytest.mark.parametrize("fused", [(), (0, 1), (2, 7), (3, 2), (2, 2), (1.5,), 3, "12"])
def test_stages_that_are_not_there_or_not_in_order_are_one_sentence(fused: object) -> None:
    with pytest.raises(ConfigError, match=r"fused_stages: got .*; expected a list of stages from 1 to 5, in order"):
        narrow("resnet18", "nddr", fused_stages=fused)


@pytest.mark.parametrize("fusion", ["none", "shared"])
def test_fused_stages_without_a_fusion_are_one_sentence(fusion: str) -> None:
    with pytest.raises(ConfigError, match=f"fused_stages were given, but fusion is '{fusion}'"):
        narrow("resnet18", fusion, fused_stages=(1,))
