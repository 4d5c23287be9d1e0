"""Trainings on two processes: the same steps as one process takes, the same end after a stop, and no hanging."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from rich.console import Console
from training_fakes import open_tiny, settings
from training_pair import Outcome, train_together

from nddr_deploy.checkpoint import load_checkpoint
from nddr_deploy.training import run
from nddr_deploy.training.config_file import config_from_dict
from nddr_deploy.training.rows import read_rows

FAKES = Path(__file__).parent / "training_fakes.py"
# What differs between processes and parts of a batch is left out: dropout, and BatchNorm over the batch.
EQUAL = {
    "network": {
        "backbone": "vgg16_deeplab",
        "backbone_options": {"width": 0.05},
        "head_options": {"width": 0.02, "dilation": 2, "dropout": 0.0},
    },
    "batchnorm": "frozen",
    "data": {"options": {"sparse": True}},
    "steps": 20,
    "eval_every": 20,
    "checkpoint_every": 20,
    "optimiser": {"lr": 0.05, "fusion_lr_factor": 2, "clip_norm": 5.0},
}
ROUNDING = 1e-5  # float32 in another order of sums, over 20 steps; found: 3e-7
STOPPED_AT = 4
STOPPED = {"steps": 6, "eval_every": 3, "augment": {"brightness": 0.2}}


@pytest.fixture(autouse=True)
def tiny_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "open_dataset", open_tiny)


def train(output: Path, **changes: Any) -> Path:
    """In this process alone."""
    return run.train(config_from_dict(settings(output, **changes)), console=Console(file=io.StringIO())).checkpoint


Pair = tuple[Path, dict[str, tuple[Outcome, Outcome]]]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Several trainings of two processes: their folder, and how each went in each process."""
    folder = tmp_path_factory.mktemp("pair")
    broken = settings(folder / "broken", **STOPPED)
    trainings = {  # one pair of processes does them all: to start Python and PyTorch takes longer than to train
        "equal": {"config": settings(folder / "equal", **EQUAL)},
        "parts": {"config": settings(folder / "parts", **EQUAL, accumulate=2)},
        "unbroken": {"config": settings(folder / "unbroken", **STOPPED)},
        "broken": {"config": broken, "interrupt": (1, 2 * STOPPED_AT)},
        "resumed": {"config": broken, "resume": True},
        "again": {"config": broken},
        "infinite": {"config": settings(folder / "infinite", data={"train_options": {"poison": 5}})},
        "wrong": {"config": settings(folder / "wrong", data={"train_options": {"wrong": 5}})},
    }
    return folder, dict(zip(trainings, train_together(folder, list(trainings.values())), strict=True))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of one process that took the whole batches of "equal"."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "open_dataset", open_tiny)
        return train(tmp_path_factory.mktemp("alone"), **EQUAL)


def furthest(one: Path, other: Path) -> float:
    """The largest difference between any weight of two checkpoints."""
    ours, theirs = load_checkpoint(one).weights, load_checkpoint(other).weights
    assert ours.keys() == theirs.keys()
    return max((ours[name].double() - theirs[name].double()).abs().max().item() for name in ours)


def test_two_processes_with_unequal_labels_equal_one(pair: Pair, alone: Path, tmp_path: Path) -> None:
    folder, _ = pair
    start = train(tmp_path, **{**EQUAL, "steps": 1, "optimiser": {"lr": 1e-12}})

    assert furthest(folder / "equal" / "ckpt.pt", alone) < ROUNDING  # 0.09 with the mean of the processes' own means
    assert furthest(start, alone) > 1  # it did learn


def test_both_log_the_losses_of_the_whole_step_and_the_metrics_of_all_samples(pair: Pair, alone: Path) -> None:
    ours, theirs = (read_rows(path / "metrics.csv", until=20) for path in (pair[0] / "equal", alone.parent))

    assert len(ours) == len(theirs) == 11  # every second step, and a validation of which each process took a half
    for one, two in zip(ours, theirs, strict=True):
        for column in one:
            if one[column] and column not in ("seconds", "images_per_s", "waiting_share"):
                assert float(one[column]) == pytest.approx(float(two[column]), rel=2e-5), column  # six digits


def test_a_batch_in_parts_has_the_gradient_of_the_whole(pair: Pair, alone: Path, tmp_path: Path) -> None:
    for parts in (2, 4):
        assert furthest(train(tmp_path / str(parts), **EQUAL, accumulate=parts), alone) < ROUNDING
    assert furthest(pair[0] / "parts" / "ckpt.pt", alone) < ROUNDING  # two parts in each of two processes


def test_frozen_batchnorm_keeps_its_statistics_and_its_weights_learn(alone: Path) -> None:
    weights = load_checkpoint(alone).weights

    means = [weights[name] for name in weights if name.endswith("running_mean")]
    assert means
    assert all(not mean.any() for mean in means)
    assert all(weights[name].item() == 0 for name in weights if name.endswith("num_batches_tracked"))
    scales = [name.replace("running_mean", "weight") for name in weights if name.endswith("running_mean")]
    assert any((weights[scale] != weights[scale][0]).any() for scale in scales)


def test_ctrl_c_of_one_process_stops_both_after_the_same_step_with_a_checkpoint(pair: Pair) -> None:
    _, outcomes = pair
    first, second = outcomes["broken"]

    assert first["error"] == second["error"] == "KeyboardInterrupt"
    assert f"Stopped after step {STOPPED_AT} of 6" in first["printed"]
    assert second["printed"] == ""


def test_a_stopped_and_resumed_training_of_two_ends_with_the_same_bytes(pair: Pair) -> None:
    folder, outcomes = pair

    assert f"Resumed after step {STOPPED_AT}" in outcomes["resumed"][0]["printed"]
    assert (folder / "broken" / "ckpt.pt").read_bytes() == (folder / "unbroken" / "ckpt.pt").read_bytes()


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("again", "ConfigError", "holds a training already"),  # only the first process looks
        ("wrong", "InputError", "scene-5: the target of segmentation holds 7"),  # only one of them draws this sample
        ("infinite", "DivergedError", "loss of depth is inf in step"),  # both know the sum
    ],
)
def test_an_error_of_one_process_ends_both_and_one_of_them_says_it(
    pair: Pair, name: str, kind: str, sentence: str
) -> None:
    _, outcomes = pair

    assert sorted(outcome["error"] for outcome in outcomes[name]) == sorted([kind, "OtherProcessError"])
    assert all(sentence in outcome["sentence"] for outcome in outcomes[name])


def test_no_thread_is_left_that_could_hold_a_tensor_when_python_ends(pair: Pair) -> None:
    """It would abort a process that has done all its work; torchrun then calls the whole training failed."""
    for name, outcomes in pair[1].items():
        for outcome in outcomes:
            assert int(outcome["threads"]) <= 2, name  # of accelerate's group; each group has two


def launch(tmp_path: Path, *words: str, **changes: Any) -> subprocess.Popen[str]:
    """`torchrun` with two processes, in a process group of its own as a terminal makes one."""
    config = tmp_path / "launched.yaml"
    config.write_text(yaml.safe_dump(settings(tmp_path / "run", **changes)))
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [sys.executable, "-m", *torchrun, str(FAKES), str(config), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TINY_SCENES_DELAY_S": "0.02"},
    )


def wait_for_a_row(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not (path.exists() and len(path.read_text().splitlines()) > 1):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} was never written"
        time.sleep(0.05)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_with_torchrun_leaves_a_checkpoint(tmp_path: Path) -> None:
    process = launch(tmp_path, steps=100_000, checkpoint_every=100_000, eval_every=100_000)
    wait_for_a_row(tmp_path / "run" / "metrics.csv", process)

    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)

    assert "Go on with --resume" in output
    assert load_checkpoint(tmp_path / "run" / "last.pt").training["step"] > 0


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_within_seconds_and_all_can_be_resumed(tmp_path: Path) -> None:
    changes = {"steps": 24, "checkpoint_every": 4, "eval_every": 24}
    process = launch(tmp_path, **changes)
    wait_for_a_row(tmp_path / "run" / "metrics.csv", process)
    workers = psutil.Process(process.pid).children()

    workers[-1].kill()
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)

    assert time.monotonic() - began < 30
    assert "SIGKILL" in errors  # torchrun's report
    assert errors.count("error: Another process") <= 1  # none, where torchrun ends the other before it can say it
    assert "run_steps" not in errors  # no traceback of ours
    assert not (tmp_path / "run" / "ckpt.pt").exists()
    again = launch(tmp_path, "--resume", **changes)
    output, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert "Resumed after step" in output
    assert load_checkpoint(tmp_path / "run" / "ckpt.pt").training["step"] == 24
