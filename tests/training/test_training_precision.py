"""Mixed precision as far as a CPU goes: bf16, fp16's scaled losses without fp16, and losses on their way from a GPU."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from accelerate import Accelerator
from rich.console import Console
from training_fakes import open_tiny, settings

from nddr_deploy.checkpoint import load_checkpoint
from nddr_deploy.errors import TrainingError
from nddr_deploy.training import run
from nddr_deploy.training.config_file import config_from_dict
from nddr_deploy.training.loss_trail import LossTrail

CLIPPED = {"lr": 0.01, "fusion_lr_factor": 10, "clip_norm": 0.5}


@pytest.fixture(autouse=True)
def tiny_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "open_dataset", open_tiny)


def train(output: Path, *, resume: bool = False, **changes: Any) -> Any:
    """The finished checkpoint."""
    config = config_from_dict(settings(output, **changes))
    return load_checkpoint(run.train(config, resume=resume, console=Console(file=io.StringIO())).checkpoint)


class Scaling(Accelerator):
    """Scales losses as fp16 does, and calculates in fp32: fp16 needs a GPU."""

    mixed_precision = "fp16"

    def __init__(self, scale: float) -> None:
        super().__init__(cpu=True)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale)

    def prepare(self, *args: Any) -> Any:
        prepared = super().prepare(*args)
        self.native_amp = True  # only now: it would calculate in bf16
        return prepared


@pytest.mark.parametrize("accumulate", [1, 2])
def test_scaled_losses_change_nothing_where_nothing_overflows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    plain = train(tmp_path / "plain", optimiser=CLIPPED, accumulate=accumulate)
    monkeypatch.setattr(run, "make_accelerator", lambda *_: Scaling(2.0**10))

    scaled = train(tmp_path / "scaled", optimiser=CLIPPED, accumulate=accumulate)

    assert all(torch.equal(scaled.weights[name], plain.weights[name]) for name in plain.weights)  # a power of two
    assert scaled.training["scaler"]["scale"] == 2.0**10


def test_an_overflow_skips_the_step_and_halves_the_scale_once_for_all_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "make_accelerator", lambda *_: Scaling(2.0**127))
    huge = {"at": "raw", "weights": {"depth": 1e6}}  # times 2 ** 125 is more than float32 holds

    found = train(tmp_path / "run", steps=3, eval_every=1, accumulate=2, batchnorm="frozen", loss=huge)

    first = load_checkpoint(tmp_path / "run" / "best.pt")  # as good as it gets
    assert first.training["step"] == 1
    assert found.training["scaler"]["scale"] == 2.0**124
    assert all(torch.equal(found.weights[name], first.weights[name]) for name in found.weights)


def test_bf16_learns_with_channels_last_and_in_parts(tmp_path: Path) -> None:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU does not calculate in bf16")
    plain = train(tmp_path / "plain", accumulate=2, batchnorm="frozen")

    found = train(tmp_path / "bf16", accumulate=2, batchnorm="frozen", amp="bf16", channels_last=True)

    for name, weight in plain.weights.items():
        assert found.weights[name].dtype == weight.dtype
        assert torch.allclose(found.weights[name], weight, atol=0.02), name  # eight bits of each product, over 6 steps
    assert any(not torch.equal(found.weights[name], plain.weights[name]) for name in plain.weights)


class Event:
    """In place of torch.cuda.Event; remembers which was waited for."""

    waited: ClassVar[list[Event]] = []

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        Event.waited.append(self)


def test_a_gpu_is_asked_for_the_losses_of_a_step_when_it_has_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch, "empty_like", lambda values, **_: torch.zeros(values.shape))  # pinned memory needs one
    Event.waited.clear()
    trail = LossTrail(["depth"], torch.device("cuda"))

    def add(step: int, loss: float) -> None:
        trail.add(step, torch.tensor(loss), torch.tensor([loss]), torch.tensor(0.0))

    add(1, 3.0)
    assert (trail.take(), len(Event.waited)) == ([], 0)
    add(2, 2.0)
    assert trail.take() == [(1, {"loss": 3.0, "depth": 3.0, "penalty": 0.0})]
    assert len(Event.waited) == 1
    assert [step for step, _ in trail.take(everything=True)] == [2]
    add(3, math.nan)
    with pytest.raises(TrainingError, match="loss of depth is nan in step 3"):
        trail.take(everything=True)  # before anything is saved
