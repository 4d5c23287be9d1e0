"""What tasks take from streams while they learn: numbers that can be redone, and those of the exported file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nddr_deploy.checkpoint import Checkpoint, save_checkpoint
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.inspect.recipe import inspect_model
from nddr_deploy.network import MultiTaskNetwork, NetworkConfig, build_network
from nddr_deploy.network.fusion import NDDR, CrossStitch, Fusion, Sluice
from nddr_deploy.network.image_input import ImageModel
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.tasks import Depth, Normals, Segmentation
from nddr_deploy.training.coupling import coupling, stream_power

SIZE = (33, 41)
TASKS = (Segmentation(classes=("a", "b")), Depth(), Normals())


def network_of(*layers: Fusion) -> MultiTaskNetwork:
    """Fusion layers and nothing around them: `coupling` asks for no more."""
    stages = [{stream: nn.Identity() for stream in layer.streams} for layer in layers]
    return MultiTaskNetwork({name: name for name in layers[0].streams}, stages, layers, {})  # type: ignore[arg-type]


def shares(network: MultiTaskNetwork, power: dict[str, list[float]]) -> dict[tuple[str, str], float]:
    """(task, stream) -> share at the first layer, for streams whose channels have these mean squares."""
    values = {stream: torch.tensor(squares) for stream, squares in power.items()}
    return {(each.task, each.stream): each.share for each in coupling(network, {"fusions.0": values})}


def test_cross_stitch_shares_are_mixing_weights_times_scales() -> None:
    layer = CrossStitch(["a", "b"], 2)
    with torch.no_grad():
        layer.mix.copy_(torch.tensor([[0.8, -0.2], [0.4, 0.8]]).reshape(2, 2, *[1] * (layer.mix.ndim - 2)))

    found = shares(network_of(layer), {"a": [1.0, 1.0], "b": [4.0, 4.0]})

    # a takes 0.8 x 1 of a and 0.2 x 2 of b; b takes 0.4 x 1 of a and 0.8 x 2 of b
    assert found == pytest.approx({("a", "a"): 2 / 3, ("a", "b"): 1 / 3, ("b", "a"): 1 / 5, ("b", "b"): 4 / 5})


def test_sluice_shares_count_both_halves() -> None:
    layer = Sluice(["a", "b"], 2)
    with torch.no_grad():
        layer.mix.copy_(torch.tensor([[3.0, 0, 0, 1], [0, 4, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))

    found = shares(network_of(layer), {"a": [1.0, 1.0], "b": [9.0, 16.0]})

    # a takes sqrt(3^2 + 4^2) of a, and sqrt(1 x 16 + 1 x 9) of b
    assert found == pytest.approx({("a", "a"): 0.5, ("a", "b"): 0.5, ("b", "a"): 0.0, ("b", "b"): 1.0})


def test_nddr_shares_with_three_tasks_where_only_one_is_fused() -> None:
    layer = NDDR(["a", "b", "c"], 1, order="conv", single_side="b", own_first=True)
    with torch.no_grad():
        layer.layers["b"].conv.weight.copy_(torch.tensor([6.0, -3.0, 1.0]).reshape(1, 3, 1, 1))  # of b, a, c

    found = shares(network_of(layer), {"a": [1.0], "b": [0.25], "c": [16.0]})

    assert found == pytest.approx({("b", "b"): 0.3, ("b", "a"): 0.3, ("b", "c"): 0.4})


@pytest.mark.parametrize(
    ("order", "expected"), [("bn-conv", 20 / 21), ("conv-bn", 0.5), ("conv-bn-relu", 0.5), ("conv-relu-bn", 0.5)]
)
def test_batchnorm_before_the_convolution_weighs_the_streams(order: str, expected: float) -> None:
    layer = NDDR(["a", "b"], 1, order=order, own=1.0, other=1.0)
    for parts in layer.layers.values():
        with torch.no_grad():
            parts.bn.weight.copy_(torch.tensor([2.0, 1.0])[: len(parts.bn.weight)])
            parts.bn.running_var.copy_(torch.tensor([0.01, 1.0])[: len(parts.bn.weight)] - parts.bn.eps)

    found = shares(network_of(layer), {"a": [1.0], "b": [1.0]})

    assert found["a", "a"] == pytest.approx(expected)


def test_batchnorm_behind_the_convolution_weighs_its_channels() -> None:
    layer = NDDR(["a", "b"], 2, order="conv-bn-relu", single_side="a")
    with torch.no_grad():
        layer.layers["a"].conv.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0]])[..., None, None])
        layer.layers["a"].bn.weight.copy_(torch.tensor([1.0, 3.0]))
        layer.layers["a"].bn.running_var.fill_(1 - layer.layers["a"].bn.eps)

    found = shares(network_of(layer), {"a": [1.0, 1.0], "b": [1.0, 1.0]})

    assert found == pytest.approx({("a", "a"): 0.25, ("a", "b"): 0.75})


def test_a_task_that_takes_nothing_has_no_shares_and_a_network_without_fusion_says_nothing() -> None:
    dead = shares(network_of(CrossStitch(["a", "b"], 1, own=0.0, other=1.0)), {"a": [1.0], "b": [0.0]})

    assert math.isnan(dead["a", "a"])
    assert dead["b", "a"] == 1
    alone = build_network(
        NetworkConfig(backbone_options={"width": 0.05}, fusion="none", head_options={"width": 0.02}), TASKS[:2]
    )
    assert coupling(alone, {}) == ()


@pytest.mark.parametrize(
    ("fusion", "options", "count"),
    [
        ("nddr", {"order": "bn-conv", "bias": True}, 2),
        ("nddr", {"order": "conv-bn-relu", "own_first": True}, 3),
        ("cross_stitch", {"per_channel": True}, 3),
        ("sluice", {}, 2),
    ],
    ids=["bn-conv", "conv-bn-relu, own first", "cross-stitch", "sluice"],
)
def test_shares_are_those_that_nddr_inspect_finds_in_the_exported_network(
    tmp_path: Path, fusion: str, options: dict[str, Any], count: int
) -> None:
    tasks = TASKS[:count]
    config = NetworkConfig(
        backbone_options={"width": 0.06, "batchnorm": True},
        fusion=fusion,
        fusion_options=options,
        fused_stages=(1, 5),
        head_options={"width": 0.02, "dilation": 2},
    )
    network = looks_trained(build_network(config, tasks)).eval()
    preprocess = Preprocess()
    save_checkpoint(tmp_path / "ckpt.pt", Checkpoint(config, tasks, preprocess, SIZE, network.state_dict()))

    with stream_power(network) as power, torch.inference_mode():
        ImageModel(network, preprocess).eval()(torch.from_numpy(np.stack(list(probe_images(SIZE, 6)))))
    ours = {(each.layer, each.task, each.stream): each.share for each in coupling(network, power)}

    theirs = {block.place: block.share for block in inspect_model(tmp_path / "ckpt.pt").blocks}
    assert len(theirs) == 2 * count**2
    assert ours == pytest.approx(theirs, abs=1e-5)  # activations in float32, in two orders of summation
    assert max(theirs.values()) - min(theirs.values()) > 0.1  # shares that are all alike would prove little


def looks_trained(network: MultiTaskNetwork) -> MultiTaskNetwork:
    """Weights and statistics that no start has."""
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, values in [*network.named_parameters(), *network.named_buffers()]:
            if name.endswith("running_var"):
                values.copy_(torch.rand(values.shape, generator=random) + 0.3)
            elif values.is_floating_point():
                values.add_(
                    0.3 * torch.randn(values.shape, generator=random) * (values.std() if values.ndim > 1 else 1)
                )
    return network
