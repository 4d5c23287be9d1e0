"""Whole trainings of a network that is as small as it gets."""

from __future__ import annotations

import csv
import io
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from training_fakes import TinyScenes, open_tiny, settings

from nddr_deploy.checkpoint import load_checkpoint
from nddr_deploy.errors import ConfigError, ModelFileError, NddrError, TrainingError, UnsupportedError
from nddr_deploy.training import run
from nddr_deploy.training.config_file import config_from_dict
from nddr_deploy.training.validate import merit

FAKES = Path(__file__).parent / "training_fakes.py"


@pytest.fixture(autouse=True)
def tiny_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "open_dataset", open_tiny)


def train(output: Path, *, resume: bool = False, **changes: Any) -> run.TrainReport:
    config = config_from_dict(settings(output, **changes))
    return run.train(config, resume=resume, console=Console(file=io.StringIO()))


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def start_process(tmp_path: Path, *words: str, **changes: Any) -> subprocess.Popen[str]:
    config = tmp_path / "process.yaml"
    config.write_text(yaml.safe_dump(settings(tmp_path / "run", **changes)))
    return subprocess.Popen(
        [sys.executable, str(FAKES), str(config), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TINY_SCENES_DELAY_S": "0.05"},
    )


def wait_for(path: Path, process: subprocess.Popen[str], after: float = 0.0) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.stat().st_mtime > after):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} was never written"
        time.sleep(0.02)


def test_a_training_leaves_a_model_its_record_and_its_settings(tmp_path: Path) -> None:
    report = train(tmp_path)

    assert report.checkpoint == tmp_path / "ckpt.pt"
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"ckpt.pt", "last.pt", "best.pt", "metrics.csv", "config.yaml", "log.txt"}
    checkpoint = load_checkpoint(report.checkpoint)
    assert [task.name for task in checkpoint.tasks] == ["segmentation", "depth"]
    assert checkpoint.size_hw == (32, 40)
    assert checkpoint.config["optimiser"]["lr"] == 0.01
    assert checkpoint.training["step"] == 6
    assert set(checkpoint.build()(torch.zeros(1, 3, 32, 40))) == {"segmentation", "depth"}
    assert config_from_dict(yaml.safe_load((tmp_path / "config.yaml").read_text())).steps == 6


def test_metrics_csv_has_the_losses_and_every_validation(tmp_path: Path) -> None:
    report = train(tmp_path, loss={"at": "raw", "weights": {"depth": 2.0}})

    found = rows(tmp_path)
    assert [row["step"] for row in found if row["loss"]] == ["2", "4", "6"]
    assert [row["step"] for row in found if row["val/depth/AbsRel"]] == ["3", "6"]
    assert float(found[0]["loss"]) == pytest.approx(
        float(found[0]["loss/segmentation"]) + 2 * float(found[0]["loss/depth"]), abs=1e-4
    )
    assert float(found[-1]["val/depth/AbsRel"]) == pytest.approx(report.scores["depth"]["AbsRel"], rel=1e-5)


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    train(tmp_path, tensorboard=True, steps=2)

    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    last = rows(tmp_path)[-1]
    assert events.Scalars("val/depth/RMSE")[0].value == pytest.approx(float(last["val/depth/RMSE"]), rel=1e-5)
    assert events.Scalars("lr")[0].step == 2


def test_training_and_validation_may_be_the_same_split_with_options_of_their_own(tmp_path: Path) -> None:
    data = {"train": "train", "val": "train", "train_options": {"count": 4}, "val_options": {"count": 0}}

    with pytest.raises(ConfigError, match="validation split has no samples"):
        train(tmp_path / "run", data=data)


def test_training_learns(tmp_path: Path) -> None:
    changes = {"steps": 60, "eval_every": 60, "optimiser": {"lr": 0.05, "fusion_lr_factor": 1}}

    report = train(tmp_path, tasks=["segmentation", "normals", "depth"], **changes)

    # chance: an mIoU of about 0.25 to 0.33, 37 degrees when everything faces the camera, 0.97 when nothing is learnt
    assert report.scores["segmentation"]["mIoU"] > 0.5
    assert report.scores["normals"]["mean_angle"] < 20
    assert report.scores["depth"]["AbsRel"] < 0.4


def test_pooled_tasks_train_with_a_pooled_head(tmp_path: Path) -> None:
    network = {"backbone": "alexnet", "backbone_options": {"width": 0.05}}
    options = {"options": {"size_hw": [64, 64]}}

    report = train(tmp_path, tasks=["age", "gender"], network=network, data=options, steps=2)

    assert set(report.scores) == {"age", "gender"}


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = train(tmp_path / "a"), train(tmp_path / "b")

    assert first.checkpoint.read_bytes() == second.checkpoint.read_bytes()


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    first, second = train(tmp_path / "a"), train(tmp_path / "b", seed=1)

    assert first.checkpoint.read_bytes() != second.checkpoint.read_bytes()


def test_worker_processes_change_nothing(tmp_path: Path) -> None:
    first, second = train(tmp_path / "a", steps=3), train(tmp_path / "b", steps=3, workers=1)

    ours, theirs = (load_checkpoint(report.checkpoint).weights for report in (first, second))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("changes", [{}, {"channels_last": True, "optimiser": {"name": "adamw"}}], ids=["sgd", "adamw"])
@pytest.mark.parametrize("stop_at", [1, 4])
def test_a_stopped_and_resumed_training_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int, changes: dict[str, Any]
) -> None:
    changes = {**changes, "augment": {"brightness": 0.2}, "steps": 5}
    unbroken = train(tmp_path / "unbroken", **changes)
    seen = TinyScenes.__getitem__

    def interrupt(self: TinyScenes, index: int) -> Any:
        if self.first == 0:
            interrupt.samples += 1  # type: ignore[attr-defined]
            if interrupt.samples == 4 * stop_at:  # type: ignore[attr-defined]
                os.kill(os.getpid(), signal.SIGINT)
        return seen(self, index)

    interrupt.samples = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(TinyScenes, "__getitem__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", **changes)
    assert load_checkpoint(tmp_path / "broken" / "last.pt").training["step"] == stop_at
    assert not (tmp_path / "broken" / "ckpt.pt").exists()

    resumed = train(tmp_path / "broken", resume=True, **changes)

    assert resumed.checkpoint.read_bytes() == unbroken.checkpoint.read_bytes()
    steps = [row["step"] for row in rows(tmp_path / "broken") if row["val/depth/AbsRel"]]
    assert steps == ["3", "5"]


def test_resuming_remembers_the_best_validation_and_drops_rows_of_steps_that_were_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merits = iter([1.0, 0.0, 0.5])
    monkeypatch.setattr("nddr_deploy.training.validate.merit", lambda scores, tasks: next(merits))
    changes = {"steps": 6, "eval_every": 2, "checkpoint_every": 2}
    train(tmp_path, **changes)
    (tmp_path / "ckpt.pt").unlink()
    state = load_checkpoint(tmp_path / "last.pt")
    assert state.training["best_step"] == 2

    # as if it had been killed beyond what last.pt holds, while it wrote the row of step 10
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("8,1.0,0.1,1,1,1,0,,,,,\n1")
    report = train(tmp_path, resume=True, **changes)

    assert report.best_step == 2
    assert [row["step"] for row in rows(tmp_path)] == ["2", "2", "4", "4", "6", "6"]


def test_a_later_validation_that_is_worse_does_not_become_the_best_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merits = iter([1.0, 0.5])

    def judge_and_interrupt(*_: Any) -> float:
        signal.raise_signal(signal.SIGINT)
        return next(merits)

    monkeypatch.setattr("nddr_deploy.training.validate.merit", judge_and_interrupt)
    changes = {"steps": 6, "eval_every": 3}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, **changes)
    monkeypatch.undo()
    monkeypatch.setattr(run, "open_dataset", open_tiny)
    monkeypatch.setattr("nddr_deploy.training.validate.merit", lambda scores, tasks: next(merits))

    assert train(tmp_path, resume=True, **changes).best_step == 3


def test_kill_9_leaves_nothing_that_looks_finished_and_resuming_ends_with_the_same_bytes(tmp_path: Path) -> None:
    changes = {"steps": 30, "eval_every": 20, "checkpoint_every": 3}
    process = start_process(tmp_path, **changes)
    folder = tmp_path / "run"
    wait_for(folder / "last.pt", process)
    began = (folder / "last.pt").stat().st_mtime
    wait_for(folder / "last.pt", process, after=began)  # past the checkpoint of step 0

    process.kill()
    process.communicate()

    assert process.returncode == -signal.SIGKILL
    assert not (folder / "ckpt.pt").exists()
    step = load_checkpoint(folder / "last.pt").training["step"]
    assert 0 < step < 30
    resumed = train(folder, resume=True, **changes)
    unbroken = train(tmp_path / "unbroken", **changes)
    assert resumed.steps == 30 - step
    assert resumed.checkpoint.read_bytes() == unbroken.checkpoint.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_exits_with_130(tmp_path: Path, number: signal.Signals) -> None:
    process = start_process(tmp_path, steps=100_000, checkpoint_every=100_000, eval_every=100_000)
    wait_for(tmp_path / "run" / "metrics.csv", process)
    time.sleep(0.3)

    process.send_signal(number)
    output, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "Go on with --resume" in output
    assert "Traceback" not in errors
    assert load_checkpoint(tmp_path / "run" / "last.pt").training["step"] > 0


def test_a_loss_that_is_not_finite_stops_with_a_sentence_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss of depth is (inf|nan) in step \d.*optimiser.lr"):
        train(tmp_path, data={"train_options": {"poison": 5}}, checkpoint_every=1)

    assert not (tmp_path / "ckpt.pt").exists()
    kept = load_checkpoint(tmp_path / "last.pt")  # refuses weights that are not finite
    assert kept.training["step"] < 6


@pytest.mark.parametrize("steps", [1, 5])
def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, steps: int) -> None:
    changes = {"steps": steps, "checkpoint_every": 1, "eval_every": 5, "optimiser": {"lr": 1e20}}

    # the first loss is finite, and so large that the first step overflows
    with pytest.raises(TrainingError, match=r"The weight .* became infinite or NaN by step 1"):
        train(tmp_path, loss={"at": "raw", "weights": {"depth": 1e30}}, **changes)

    assert load_checkpoint(tmp_path / "last.pt").training["step"] == 0
    assert not (tmp_path / "ckpt.pt").exists()


def test_a_finished_training_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    train(tmp_path, steps=1)
    before = (tmp_path / "ckpt.pt").read_bytes()

    with pytest.raises(ConfigError, match=r"--resume.*--overwrite"):
        train(tmp_path, steps=1, seed=9)

    assert (tmp_path / "ckpt.pt").read_bytes() == before


def test_overwriting_removes_the_old_model_before_the_first_step(tmp_path: Path) -> None:
    train(tmp_path, steps=1)

    with pytest.raises(TrainingError):
        run.train(
            config_from_dict(settings(tmp_path, data={"train_options": {"poison": 0, "count": 1}})),
            overwrite=True,
            console=Console(file=io.StringIO()),
        )

    assert not (tmp_path / "ckpt.pt").exists()


def test_resuming_with_other_settings_is_refused(tmp_path: Path) -> None:
    train(tmp_path)

    with pytest.raises(ConfigError, match=r"optimiser.lr: this training began with 0.01; now it is 0.02"):
        train(tmp_path, resume=True, optimiser={"lr": 0.02, "fusion_lr_factor": 10})


def test_resuming_a_finished_training_changes_nothing(tmp_path: Path) -> None:
    before = train(tmp_path).checkpoint.read_bytes()

    again = train(tmp_path, resume=True)

    assert again.steps == 0
    assert again.checkpoint.read_bytes() == before


def test_resuming_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="nothing to resume"):
        train(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tasks": ["depht"]}, "Did you mean 'depth'"),
        ({"tasks": ["depth", "depth"]}, "named twice"),
        ({"steps": 0}, "steps: expected at least 1"),
        ({"schedule": {"warmup_steps": 6}}, "warm-up"),
        ({"data": {"train_options": {"count": 0}}}, "training split has no samples"),
        ({"data": {"val_options": {"count": 0}}}, "validation split has no samples"),
        ({"start": {"imagenet": "a", "checkpoint": "b"}}, "starts from one of them"),
        ({"threads": 0}, "threads"),
        ({"seed": 2**63}, r"seed below 2\^63"),
        ({"optimiser": {"clip_norm": 0}}, "clip_norm: expected a positive norm"),
        ({"optimiser": {"weight_decay": math.inf}}, "optimiser.weight_decay: found inf; expected finite"),
        ({"loss": {"weights": {"depth": math.nan}}}, "loss.weights.depth: found nan"),
        ({"augment": {"scale": [1, math.inf]}}, r"augment.scale: found \[1.0, inf\]"),
        ({"augment": {"scale": [2, 1]}}, "augment.scale: expected a range of positive factors"),
        ({"augment": {"hue": 0.6}}, "hue by 0 to 0.5"),
        ({"augment": {"crop_hw": [0, 8]}}, r"crop_hw: expected a height and a width from 1; got \[0, 8\]"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(NddrError, match=sentence):
        train(tmp_path / "run", **changes)

    assert not (tmp_path / "run").exists()


def test_fp16_on_a_cpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="fp16 needs a GPU"):
        train(tmp_path, amp="fp16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no GPU"):
        train(tmp_path, device="cuda")


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU does not calculate in bf16")
def test_bf16_trains_on_a_cpu_that_can(tmp_path: Path) -> None:
    report = train(tmp_path, amp="bf16", steps=2)

    assert all(weight.dtype != torch.bfloat16 for weight in load_checkpoint(report.checkpoint).weights.values())


@pytest.fixture
def single_task(tmp_path: Path) -> Iterator[dict[str, str]]:
    return {
        task: str(
            train(
                tmp_path / task,
                tasks=[task],
                steps=1,
                seed=seed,
                network={**settings(tmp_path)["network"], "fusion": "none"},
            ).checkpoint
        )
        for seed, task in enumerate(("segmentation", "depth"))
    }


def test_training_starts_from_single_task_networks(tmp_path: Path, single_task: dict[str, str]) -> None:
    report = train(tmp_path / "both", steps=1, start={"single_task": single_task}, optimiser={"lr": 1e-12})

    weights = load_checkpoint(report.checkpoint).weights
    for task, path in single_task.items():
        alone = load_checkpoint(path).weights
        ours = {name: value for name, value in weights.items() if f".{task}." in name and name.endswith("0.weight")}
        assert ours
        for name, value in ours.items():
            if name.startswith(("stages.", "heads.")):
                assert torch.allclose(value, alone[name], atol=1e-6), name  # one step at a rate of 1e-12


def test_training_starts_from_a_checkpoint_of_the_same_network(tmp_path: Path) -> None:
    first = train(tmp_path / "first", steps=2)

    second = train(
        tmp_path / "second", steps=1, seed=5, start={"checkpoint": str(first.checkpoint)}, optimiser={"lr": 1e-12}
    )

    ours, theirs = (load_checkpoint(report.checkpoint).weights for report in (second, first))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours if name.endswith("weight"))


def test_training_starts_from_an_imagenet_file_in_every_stream(tmp_path: Path) -> None:
    network = {"backbone": "alexnet", "backbone_options": {"width": 0.05}}
    changes = {"tasks": ["age", "gender"], "network": network, "data": {"options": {"size_hw": [64, 64]}}, "steps": 1}
    donor = load_checkpoint(train(tmp_path / "donor", **changes).checkpoint).build()
    imagenet = {key: value for stage in donor.stages for key, value in stage["age"].state_dict().items()}
    torch.save(imagenet, tmp_path / "alexnet.pth")

    start, optimiser = {"imagenet": str(tmp_path / "alexnet.pth")}, {"lr": 1e-12}
    report = train(tmp_path / "run", seed=3, start=start, optimiser=optimiser, **changes)

    started = load_checkpoint(report.checkpoint).build()
    for task in ("age", "gender"):
        for stage in started.stages:
            for key, value in stage[task].state_dict().items():
                assert torch.allclose(value, imagenet[key], atol=1e-6), key  # one step at a rate of 1e-12


def test_every_stream_starts_from_the_stream_of_another_network(tmp_path: Path, single_task: dict[str, str]) -> None:
    first = load_checkpoint(single_task["depth"]).weights
    for number, fusion in enumerate(("nddr", "shared")):
        report = train(
            tmp_path / fusion,
            steps=1,
            seed=6 + number,
            network={**settings(tmp_path)["network"], "fusion": fusion},
            start={"streams": single_task["depth"]},
            optimiser={"lr": 1e-12},
        )
        started = load_checkpoint(report.checkpoint).weights
        for key in (key for key in started if key.startswith("stages.") and key.endswith("weight")):
            parts = key.split(".")
            assert torch.allclose(started[key], first[".".join([*parts[:2], "depth", *parts[3:]])], atol=1e-6), key


def test_all_streams_cannot_start_from_a_network_with_several(tmp_path: Path) -> None:
    both = train(tmp_path / "both", steps=1)

    with pytest.raises(ConfigError, match="one stream for all streams to start from; this one has 2"):
        train(tmp_path / "again", steps=1, start={"streams": str(both.checkpoint)})


def test_a_start_of_another_width_is_one_sentence(tmp_path: Path, single_task: dict[str, str]) -> None:
    network = {"backbone": "vgg16_deeplab", "backbone_options": {"width": 0.1}, "head_options": {"width": 0.02}}

    with pytest.raises(ModelFileError, match="shape"):
        train(tmp_path / "both", network=network, start={"single_task": single_task})
    with pytest.raises(ModelFileError, match="needs"):
        train(tmp_path / "again", network=network, start={"checkpoint": single_task["depth"]})


def test_merit_counts_relative_changes_of_every_task_alike() -> None:
    tasks = TinyScenes("train").tasks[:3]
    scores = {"segmentation": {"mIoU": 0.4}, "normals": {"mean_angle": 20.0}, "depth": {"AbsRel": 0.2}}
    better_miou = {**scores, "segmentation": {"mIoU": 0.44}}
    better_depth = {**scores, "depth": {"AbsRel": 0.2 / 1.1}}

    assert merit(better_miou, tasks) == pytest.approx(merit(better_depth, tasks))
    assert merit(better_miou, tasks) > merit(scores, tasks)
    assert merit({**scores, "depth": {"AbsRel": float("nan")}}, tasks) == -float("inf")


@pytest.mark.slow
def test_two_processes_take_the_same_steps_as_one_and_one_of_them_writes(tmp_path: Path) -> None:
    # without BatchNorm and dropout, the mean of two half batches' gradients is that of the whole batch
    network = {
        "backbone": "vgg16_deeplab",
        "backbone_options": {"width": 0.05, "batchnorm": False},
        "fusion_options": {"order": "conv"},
        "head_options": {"width": 0.02, "dilation": 2, "batchnorm": False, "dropout": 0.0},
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings(tmp_path / "two", network=network)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

    done = subprocess.run(
        [*launch, str(FAKES), str(config)], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )

    assert done.returncode == 0, done.stderr
    assert "on 2 x cpu" in done.stdout
    assert done.stdout.count("The model is") == 1
    two, one = (
        load_checkpoint(tmp_path / "two" / "ckpt.pt"),
        load_checkpoint(train(tmp_path / "one", network=network).checkpoint),
    )
    for name, weight in one.weights.items():
        assert torch.allclose(two.weights[name], weight, rtol=1e-4, atol=1e-6), name  # float32, another order of sums
    assert len(rows(tmp_path / "two")) == len(rows(tmp_path / "one"))
    states = two.training["random"]
    assert len(states) == 2
    assert not torch.equal(states[0]["cpu"], states[1]["cpu"])
    with pytest.raises(ModelFileError, match="run by 2 processes, and now by 1"):
        train(tmp_path / "two", resume=True, network=network)


@pytest.mark.parametrize("fusion", ["nddr", "cross_stitch", "sluice"])
def test_every_fusion_trains_with_channels_last(tmp_path: Path, fusion: str) -> None:
    network = {**settings(tmp_path)["network"], "fusion": fusion}

    report = train(tmp_path, network=network, channels_last=True, steps=2)

    plain = train(tmp_path / "plain", network=network, steps=2)
    ours, theirs = (load_checkpoint(report.checkpoint).weights for report in (report, plain))
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=1e-4) for name in ours)
