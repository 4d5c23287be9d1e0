"""BatchNorm that is synced or frozen while a network learns."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn
from training_fakes import TinyScenes, open_tiny, settings

from nddr_deploy.checkpoint import load_checkpoint
from nddr_deploy.errors import ConfigError, NddrError, UnsupportedError
from nddr_deploy.network import MultiTaskNetwork, NetworkConfig, build_network
from nddr_deploy.training import run
from nddr_deploy.training.batchnorm import set_up_batchnorm, to_training_mode
from nddr_deploy.training.config_file import config_from_dict

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def tiny_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "open_dataset", open_tiny)


@pytest.fixture
def network() -> MultiTaskNetwork:
    options = {"backbone_options": {"width": 0.05}, "head_options": {"width": 0.02, "dilation": 2}}
    built = build_network(NetworkConfig(backbone="vgg16_deeplab", **options), TinyScenes("train").tasks[:2])
    built.train()(torch.rand(2, 3, 32, 40))  # statistics that are not 0 and 1
    return built


def train(output: Path, **changes: Any) -> run.TrainReport:
    return run.train(config_from_dict(settings(output, **changes)), console=Console(file=io.StringIO()))


def test_synced_batchnorm_keeps_every_name_and_every_result(network: MultiTaskNetwork) -> None:
    images = torch.rand(1, 3, 32, 40)
    names, weights, before = list(network.state_dict()), list(network.parameters()), network.eval()(images)

    set_up_batchnorm(network, "synced", GPU)

    assert any(isinstance(layer, nn.SyncBatchNorm) for layer in network.modules())
    assert not any(type(layer) is nn.BatchNorm2d for layer in network.modules())
    assert list(network.state_dict()) == names
    assert all(mine is was for mine, was in zip(network.parameters(), weights, strict=True))  # an optimiser has them
    after = network.eval()(images)
    assert all(torch.equal(after[task], before[task]) for task in before)


def test_synced_batchnorm_is_refused_where_it_would_lose_something(network: MultiTaskNetwork) -> None:
    class BatchNormAct(nn.BatchNorm2d):
        """As timm's: a ReLU follows."""

    network.add_module("normalised", BatchNormAct(3))

    with pytest.raises(UnsupportedError, match="normalised is a BatchNormAct, which does more than BatchNorm"):
        set_up_batchnorm(network, "synced", GPU)


def test_frozen_batchnorm_alone_stays_in_evaluation_mode(network: MultiTaskNetwork) -> None:
    to_training_mode(network, "frozen")

    for layer in network.modules():
        assert layer.training is not isinstance(layer, nn.BatchNorm2d)


def test_frozen_batchnorm_stays_frozen_after_a_validation(tmp_path: Path) -> None:
    start = load_checkpoint(train(tmp_path / "start", steps=3).checkpoint)

    found = load_checkpoint(
        train(
            tmp_path / "run",
            steps=4,
            eval_every=1,
            batchnorm="frozen",
            start={"checkpoint": str(tmp_path / "start/ckpt.pt")},
        ).checkpoint
    )

    statistics = [name for name in start.weights if "running" in name or "num_batches" in name]
    assert statistics
    assert all(torch.equal(found.weights[name], start.weights[name]) for name in statistics)


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"batchnorm": "synced"}, UnsupportedError, "synced needs GPUs, and this training runs on a CPU"),
        (
            {"accumulate": 3},
            ConfigError,
            "4 images cannot be shared out evenly among 1 x 3 .processes x accumulate.*multiple of 3",
        ),
        ({"accumulate": 0}, ConfigError, "accumulate: expected at least 1; got 0"),
        (
            {"accumulate": 4, "network": {"backbone": "resnet18", "backbone_options": {"width": 0.05}, "head": "aspp"}},
            UnsupportedError,
            "saw one value per channel, of one image.* Raise batch_size, lower accumulate, or",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(
    tmp_path: Path, changes: dict[str, Any], kind: type[NddrError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        train(tmp_path, **changes)
