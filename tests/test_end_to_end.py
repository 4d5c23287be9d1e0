"""The whole road, small: train, export, evaluate, run without PyTorch, look at the result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from nddr_deploy import export_checkpoint, open_dataset, open_engine, score, train
from nddr_deploy.data.rooms.walkthrough import render_walkthrough
from nddr_deploy.training.config_file import config_from_dict

SIZE_HW = (48, 64)


class Road(NamedTuple):
    folder: Path
    checkpoint: Path
    model: Path
    video: Path


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    """A network of three tasks that was trained for a moment, its export and a video."""
    folder = tmp_path_factory.mktemp("road")
    config = config_from_dict(
        {
            "output": str(folder / "training"),
            "data": {
                "name": "rooms",
                "options": {"size_hw": list(SIZE_HW)},
                "train_options": {"count": 24},
                "val_options": {"count": 4},
            },
            "tasks": ["segmentation", "normals", "depth"],
            "network": {
                "backbone": "vgg16_deeplab",
                "backbone_options": {"width": 0.0625},
                "head_options": {"width": 0.03125, "dilation": 2},
            },
            "optimiser": {"lr": 0.02, "fusion_lr_factor": 5},
            "steps": 12,
            "batch_size": 6,
            "threads": 1,
            "tensorboard": False,
        }
    )
    checkpoint = train(config).checkpoint
    model = folder / "model.onnx"
    assert export_checkpoint(checkpoint, model).parity.passed
    render_walkthrough(folder / "video.mp4", frames=12, rate=10, size_hw=(120, 160))
    return Road(folder, checkpoint, model, folder / "video.mp4")


def test_the_exported_model_scores_what_the_checkpoint_scores(road: Road) -> None:
    unseen = open_dataset("rooms", "test", count=6, size_hw=SIZE_HW)

    with open_engine(road.checkpoint, threads=1) as torch_engine, open_engine(road.model, threads=1) as onnx_engine:
        expected, found = score(torch_engine, unseen), score(onnx_engine, unseen)

    assert found.keys() == expected.keys() == {"segmentation", "normals", "depth"}
    for task, metrics in expected.items():
        # rounding moves a pixel over a threshold now and then: one of 18,432 is 5e-5
        assert found[task] == pytest.approx(metrics, rel=1e-3, abs=1e-3)


def test_video_goes_in_and_comes_out_where_pytorch_is_not_installed(road: Road) -> None:
    output = road.folder / "overlay.mp4"
    without_torch = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from nddr_deploy.inference.__main__ import main\n"
        "raise SystemExit(main(sys.argv[1:]))"
    )
    arguments = ["--engine", str(road.model), "--input", str(road.video), "--output", str(output), "--threads", "1"]

    run = subprocess.run([sys.executable, "-c", without_torch, *arguments], capture_output=True, text=True)

    assert run.returncode == 0, run.stderr
    with av.open(str(output)) as result, av.open(str(road.video)) as source:
        assert result.streams.video[0].average_rate == source.streams.video[0].average_rate
        frames = [frame.to_ndarray(format="rgb24") for frame in result.decode(video=0)]
        originals = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    assert len(frames) == len(originals) == 12
    assert frames[0].shape == originals[0].shape
    drawn = np.abs(frames[0].astype(int) - originals[0]).mean()
    assert drawn > 10, "nothing was drawn on the frames"


def test_every_head_comes_back_from_one_pass_under_its_own_name(road: Road) -> None:
    with open_engine(road.model, threads=1) as engine:
        heads = engine.infer(np.zeros((1, *SIZE_HW, 3), np.uint8))

    assert {name: output.shape for name, output in heads.items()} == {
        "segmentation": (1, 12, 6, 8),
        "normals": (1, 3, 6, 8),
        "depth": (1, 1, 6, 8),
    }


def test_a_wrong_input_to_a_command_is_one_sentence_and_status_2(road: Road) -> None:
    broken = road.folder / "broken.onnx"
    broken.write_bytes(b"not a model")
    commands = {
        "nddr_deploy.export": [str(road.folder / "none.pt")],
        "nddr_deploy.evaluate": [str(broken), "--data", "rooms"],
        "nddr_deploy.inference": ["--engine", str(broken), "--input", str(road.video), "--output", "x.mp4"],
        "nddr_deploy.benchmark": ["--engine", str(broken)],
        "nddr_deploy.training": [str(road.folder / "none.yaml")],
    }

    for module, arguments in commands.items():
        run = subprocess.run(
            [sys.executable, "-m", module, *arguments], capture_output=True, text=True, cwd=road.folder
        )
        assert run.returncode == 2, (module, run.stderr)
        assert run.stderr.startswith("error: "), (module, run.stderr)
        assert len(run.stderr.strip().splitlines()) == 1, (module, run.stderr)
    assert not (road.folder / "x.mp4").exists()


def test_the_parity_report_is_written_as_json(road: Road) -> None:
    report = road.folder / "parity.json"

    export_checkpoint(road.checkpoint, road.folder / "again.onnx", report=report)

    parity = json.loads(report.read_text())["parity"]
    assert parity["passed"] is True
    assert [head["task"] for head in parity["heads"]] == ["segmentation", "normals", "depth"]
    assert all(head["relative"] < 1e-4 for head in parity["heads"])
