"""Real indoor frames train without special cases: prepared by nddr-data, learned by heart, scored."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from nddr_deploy import open_dataset, open_engine
from nddr_deploy.data.prepare.nyuv2 import prepare_nyuv2
from nddr_deploy.evaluate.score import Scores, score
from nddr_deploy.training.config_file import read_config
from nddr_deploy.training.run import train

EXAMPLE = Path(__file__).parents[2] / "examples" / "nyuv2_frames.yaml"
DATA = Path(os.environ.get("NDDR_TEST_DATA") or Path(__file__).parents[3] / "shared/data") / "nyuv2"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"real frames are not there: {DATA} (set NDDR_TEST_DATA)")


def learned(folder: Path, split: str, output: Path, *words: str) -> Scores:
    """The scores, at the frames' own size, of a network that learned a split's frames."""
    settings = [f"data.options.path={folder}", f"data.train={split}", f"output={output}", "device=cpu", *words]
    report = train(read_config(EXAMPLE, settings), console=Console(file=io.StringIO()))
    with open_engine(report.checkpoint) as engine:
        return score(engine, open_dataset("folder", split, path=str(folder)))


@pytest.mark.slow
def test_eight_frames_are_learned_by_heart(tmp_path: Path) -> None:
    prepare_nyuv2(DATA / "mini_multitask", tmp_path / "frames")

    scores = learned(tmp_path / "frames", "train", tmp_path / "run")

    assert scores["normals"]["median_angle"] < 8.0
    assert scores["segmentation"]["PAcc"] > 0.95
    assert scores["depth"]["AbsRel"] < 0.05


def test_frames_with_40_classes_and_normals_from_depth_train_and_are_scored(tmp_path: Path) -> None:
    prepare_nyuv2(DATA, tmp_path / "frames")
    words = (
        "data.val=test",
        "data.options.size_hw=[48,64]",
        "steps=2",
        "batch_size=2",
        "eval_limit=1",
        "schedule.warmup_steps=0",
    )
    narrow = ("network.backbone_options={width: 0.05, output_stride: 8}", "network.head_options.width=0.02")

    scores = learned(tmp_path / "frames", "test", tmp_path / "run", *words, *narrow)

    assert set(scores) == {"segmentation", "normals", "depth"}
    assert 0 < scores["segmentation"]["PAcc"] < 1
    assert 0 < scores["normals"]["mean_angle"] < 120
