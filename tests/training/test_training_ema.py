"""Averaged weights: what they are, where they are kept, and that a resumed training has the same."""

from __future__ import annotations

import io
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from training_fakes import open_tiny, settings

from nddr_deploy.checkpoint import load_checkpoint
from nddr_deploy.errors import ConfigError
from nddr_deploy.network import NetworkConfig, build_network
from nddr_deploy.tasks import Depth, Normals
from nddr_deploy.training import run
from nddr_deploy.training.config_file import config_from_dict
from nddr_deploy.training.ema import Average


@pytest.fixture(autouse=True)
def tiny_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "open_dataset", open_tiny)


def train(output: Path, *, resume: bool = False, **changes: Any) -> run.TrainReport:
    config = config_from_dict(settings(output, **changes))
    return run.train(config, resume=resume, console=Console(file=io.StringIO()))


def small_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(
        NetworkConfig(backbone="resnet18", backbone_options={"width": 0.03}, head="conv1x1"), (Normals(), Depth())
    )


def test_the_average_is_the_recursion_it_says() -> None:
    network = small_network()
    average = Average(network, decay=0.5)
    name = "heads.depth.conv.weight"
    expected = network.state_dict()[name].clone()

    for step in range(1, 12):
        with torch.no_grad():
            network.state_dict()[name].fill_(float(step))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step

    assert torch.allclose(average.network.state_dict()[name], expected, rtol=1e-6)  # float32
    assert network.state_dict()[name][0, 0, 0, 0] == 11


def test_statistics_of_batchnorm_are_averaged_and_its_counter_is_copied() -> None:
    network = small_network().train()
    average = Average(network, decay=0.9)
    images = torch.rand(4, 3, 64, 64)

    network(images)
    average.update(1)

    ours, theirs = average.network.state_dict(), network.state_dict()
    mean = next(key for key in theirs if key.endswith("running_mean"))
    assert torch.allclose(ours[mean], (1 - 2 / 11) * theirs[mean], rtol=1e-5)  # it began at 0; decay (1 + 1) / (10 + 1)
    assert ours[mean.replace("running_mean", "num_batches_tracked")] == 1


def test_the_finished_model_has_the_averaged_weights_and_the_last_state_both(tmp_path: Path) -> None:
    plain = load_checkpoint(train(tmp_path / "plain").checkpoint)
    report = train(tmp_path / "averaged", ema=0.9)

    finished, last = load_checkpoint(report.checkpoint), load_checkpoint(tmp_path / "averaged" / "last.pt")
    best = load_checkpoint(tmp_path / "averaged" / "best.pt")
    name = next(name for name in plain.weights if name.endswith("conv.weight") and name.startswith("fusions"))
    assert torch.equal(last.training["last_weights"][name], plain.weights[name])  # averaging changes no training
    assert torch.equal(finished.weights[name], last.weights[name])
    assert not torch.allclose(finished.weights[name], plain.weights[name], atol=1e-6)
    assert "last_weights" not in best.training
    assert finished.training["scores"] != plain.training["scores"]


@pytest.mark.parametrize("stop_after", [2, 5])
def test_a_resumed_training_has_the_same_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    whole = train(tmp_path / "whole", ema=0.8)
    real = Average.update

    def interrupting(self: Average, step: int) -> None:
        real(self, step)
        if step == stop_after:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Average, "update", interrupting)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", ema=0.8)
    monkeypatch.setattr(Average, "update", real)
    parts = train(tmp_path / "parts", ema=0.8, resume=True)

    assert parts.checkpoint.read_bytes() == whole.checkpoint.read_bytes()


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_senseless_decay_is_refused(tmp_path: Path, decay: float) -> None:
    with pytest.raises(ConfigError, match=r"ema: expected a decay from 0 to below 1"):
        train(tmp_path, ema=decay)
    assert not (tmp_path / "ckpt.pt").exists()
