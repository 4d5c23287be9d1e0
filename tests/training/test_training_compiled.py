"""`compile: true`: the same training, as it was asked for or refused.

Most tests put PyTorch's cheap backend in the compiler's place: it traces and cuts the graph in the same way, and writes
no C++.
"""

from __future__ import annotations

import io
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from training_fakes import open_tiny, settings

from nddr_deploy.checkpoint import load_checkpoint
from nddr_deploy.errors import UnsupportedError
from nddr_deploy.training import run
from nddr_deploy.training.config_file import config_from_dict
from nddr_deploy.training.ema import Average

SMALL = {
    "network": {"backbone": "alexnet", "backbone_options": {"width": 0.04}, "head": "conv1x1"},
    "data": {"options": {"size_hw": [72, 72], "count": 4}},
    "batch_size": 2,
    "steps": 4,
    "eval_every": 2,
    "eval_limit": 2,
}


@pytest.fixture(autouse=True)
def tiny_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "open_dataset", open_tiny)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


def train(output: Path, *, resume: bool = False, **changes: Any) -> tuple[run.TrainReport, str]:
    printed = io.StringIO()
    config = config_from_dict(settings(output, **{**SMALL, **changes}))
    return run.train(config, resume=resume, console=Console(file=printed, width=1000)), printed.getvalue()


def weights_of(report: run.TrainReport) -> dict[str, torch.Tensor]:
    return load_checkpoint(report.checkpoint).weights


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert list(a) == list(b)
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.mark.usefixtures("cheap")
def test_the_checkpoint_has_the_same_names_and_the_same_weights_as_without(tmp_path: Path) -> None:
    eager, _ = train(tmp_path / "eager")
    compiled, printed = train(tmp_path / "compiled", compile=True)

    assert largest_difference(weights_of(compiled), weights_of(eager)) < 1e-5  # float32, other order of sums
    assert "torch.compile made 1 graph, with 0 breaks" in printed


@pytest.mark.usefixtures("cheap")
def test_it_goes_with_parts_averaged_weights_and_mixed_precision(tmp_path: Path) -> None:
    both = {"batch_size": 4, "accumulate": 2, "steps": 2, "ema": 0.5, "loss": {"at": "full", "weighting": "gradnorm"}}

    eager, _ = train(tmp_path / "eager", **both)
    compiled, _ = train(tmp_path / "compiled", compile=True, **both)
    mixed, printed = train(tmp_path / "mixed", compile=True, amp="bf16", **both)

    assert largest_difference(weights_of(compiled), weights_of(eager)) < 1e-5
    assert "torch.compile made" in printed
    assert mixed.steps == 2


@pytest.mark.usefixtures("cheap")
def test_a_resumed_training_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = train(tmp_path / "whole", compile=True, ema=0.9)
    real = Average.update

    def interrupting(self: Average, step: int) -> None:
        real(self, step)
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Average, "update", interrupting)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", compile=True, ema=0.9)
    monkeypatch.setattr(Average, "update", real)
    parts, _ = train(tmp_path / "parts", compile=True, ema=0.9, resume=True)

    assert parts.checkpoint.read_bytes() == whole.checkpoint.read_bytes()


def test_no_compiler_is_one_sentence_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")

    with pytest.raises(UnsupportedError, match="needs a C\\+\\+ compiler; found none of: no-such-compiler"):
        train(tmp_path / "run", compile=True)
    assert not (tmp_path / "run").exists()


def test_a_compiler_that_is_switched_off_is_refused(tmp_path: Path) -> None:
    import torch._dynamo.config as config

    off = config.patch(disable=True)  # what TORCH_COMPILE_DISABLE=1 sets
    with off, pytest.raises(UnsupportedError, match="TORCH_COMPILE_DISABLE=1"):
        train(tmp_path / "run", compile=True)


def test_a_compiler_that_fails_ends_the_training_also_where_pytorch_was_told_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._dynamo.config as config

    def broken(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        raise RuntimeError("cc1plus: out of luck")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    told = config.patch(suppress_errors=True)  # what TORCHDYNAMO_SUPPRESS_ERRORS=1 sets

    with told, pytest.raises(UnsupportedError, match=r"cannot translate this network .*out of luck.*compile=false"):
        train(tmp_path / "run", compile=True)


@pytest.mark.slow
def test_the_real_compiler_trains_the_same(tmp_path: Path) -> None:
    eager, _ = train(tmp_path / "eager")
    compiled, printed = train(tmp_path / "compiled", compile=True)

    assert largest_difference(weights_of(compiled), weights_of(eager)) < 1e-4  # float32; fused kernels round elsewhere
    assert "torch.compile made 1 graph, with 0 breaks" in printed
