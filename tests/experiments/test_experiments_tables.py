"""The whole of it: every table of the paper from the command, on synthetic data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nddr_deploy import export_checkpoint, infer, open_dataset, open_engine
from nddr_deploy.evaluate.score import score
from nddr_deploy.experiments.spec import read_table

DATA = Path(os.environ.get("NDDR_TEST_DATA") or Path(__file__).parents[3] / "shared/data")
WALK_BY = DATA / "videos" / "intel_one-by-one-person-detection.mp4"
EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in (EXAMPLES / "tables").glob("table*.yaml"))
MOST_S = 300  # what all tables together may take; alone on two cores they take half a minute


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("paper")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "reproduce.py"), "all", "--scale", "tiny", "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < MOST_S
    return output


@pytest.mark.parametrize("name", NAMES)
def test_every_table_of_the_paper_runs_from_end_to_end(tables: Path, name: str) -> None:
    spec = read_table(EXAMPLES / "tables" / f"{name}.yaml", "tiny")
    values = json.loads((tables / "tables" / f"{name}-tiny.json").read_text())

    assert values["seeds"] == [0]
    assert list(values["rows"]) == [row.name for row in spec.rows]
    for row in spec.rows:
        cells = values["rows"][row.name]
        assert list(cells) == [f"{task}.{metric}" for task, metric in spec.columns]
        assert all(len(cell["values"]) == 1 for cell in cells.values()), row.name
        assert tuple(cell["paper"] for cell in cells.values()) == (row.paper or (None,) * len(spec.columns))
    assert values["failed"] == dict.fromkeys(values["rows"], 0)
    assert (tables / "tables" / f"{name}-tiny.png").stat().st_size > 10_000


def finished(tables: Path, table: str, name: str) -> Path:
    """The folder of one of a table's runs."""
    values = json.loads((tables / "tables" / f"{table}-tiny.json").read_text())
    (folder,) = (
        path
        for path in (tables / "runs").glob(f"{name}-seed0-*")
        if any(path.name[-10:] == d[:10] for d in values["runs"])
    )
    return folder


def test_a_tables_numbers_are_what_nddr_eval_says_of_the_checkpoint(tables: Path) -> None:
    cells = json.loads((tables / "tables" / "table4-tiny.json").read_text())["rows"]["NDDR"]

    with open_engine(finished(tables, "table4", "vgg16_deeplab-nddr") / "ckpt.pt") as engine:
        scores = score(engine, open_dataset("rooms", "test", size_hw=[32, 40], count=2))

    assert cells["normals.mean_angle"]["values"] == [scores["normals"]["mean_angle"]]
    assert cells["segmentation.mIoU"]["values"] == [100 * scores["segmentation"]["mIoU"]]


@pytest.mark.parametrize(
    ("table", "name", "data", "size_hw"),
    [
        ("table4", "vgg16_deeplab-nddr", "rooms", (32, 40)),
        ("table6", "vgg16_deeplab-shortcut-nddr", "rooms", (32, 40)),
        ("table7", "vgg16-sluice", "faces", (32, 32)),
    ],
)
def test_the_best_checkpoint_of_a_recipe_is_exported_scores_the_same_and_runs_on_a_video(
    tables: Path, tmp_path: Path, table: str, name: str, data: str, size_hw: tuple[int, int]
) -> None:
    best = finished(tables, table, name) / "best.pt"
    dataset = open_dataset(data, "test", size_hw=list(size_hw), count=20)

    export_checkpoint(best, tmp_path / "model.onnx")
    with open_engine(best) as engine:
        before = score(engine, dataset)
    with open_engine(tmp_path / "model.onnx") as engine:
        after = score(engine, dataset)

    for task, metrics in before.items():
        for metric, value in metrics.items():
            # Raw outputs differ by rounding; of 20 samples no more than single pixels may change sides.
            assert after[task][metric] == pytest.approx(value, rel=1e-3, abs=1e-6), (task, metric)
    if WALK_BY.is_file():
        report = infer(tmp_path / "model.onnx", WALK_BY, tmp_path / "out.mp4", limit=5)
        assert report.frames == 5
        assert (tmp_path / "out.mp4").stat().st_size > 1000
