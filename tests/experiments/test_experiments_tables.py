"""The whole of it: every table of the paper from the command, on synthetic data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nddr_deploy.evaluate.score import score
from nddr_deploy.experiments.spec import read_table

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


def test_a_tables_numbers_are_what_nddr_eval_says_of_the_checkpoint(tables: Path) -> None:
    from nddr_deploy import open_dataset, open_engine

    values = json.loads((tables / "tables" / "table4-tiny.json").read_text())
    result = next(json.loads(path.read_text()) for path in (tables / "results").glob("vgg16_deeplab-nddr-seed0-*")
                  if json.loads(path.read_text())["digest"] in values["runs"])  # fmt: skip
    checkpoint = tables / "runs" / f"vgg16_deeplab-nddr-seed0-{result['digest'][:10]}" / "ckpt.pt"

    with open_engine(checkpoint) as engine:
        scores = score(engine, open_dataset("rooms", "test", size_hw=[32, 40], count=2))

    cells = values["rows"]["NDDR"]
    assert cells["normals.mean_angle"]["values"] == [scores["normals"]["mean_angle"]]
    assert cells["segmentation.mIoU"]["values"] == [100 * scores["segmentation"]["mIoU"]]
