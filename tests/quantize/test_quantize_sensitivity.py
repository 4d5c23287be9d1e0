"""What each layer's integers cost each task, on made-up losses."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_trials import FakeTrials
from PIL import Image

from nddr_deploy.evaluate.change import Change
from nddr_deploy.quantize.sensitivity import Sensitivity, measure_sensitivity
from nddr_deploy.tasks import Segmentation

LOSSES = {"stem": (0.25, 0.0), "fusions.0": (3.0, 1.5), "head": (-0.5, 0.125)}
TOGETHER = {("stem", "head"): (1.0, 0.0)}  # costs a point more where both are quantised


class TwoMetrics(FakeTrials):
    """With a second metric of the first task, which is not its headline."""

    def changes(self, keep: Any = ()) -> tuple[Change, ...]:
        first, second = super().changes(keep)
        form = Segmentation(classes=("a", "b")).metrics["PAcc"]
        return first, replace(first, metric="PAcc", form=form, after=first.before), second


@pytest.fixture
def measured() -> Sensitivity:
    return measure_sensitivity(FakeTrials(LOSSES, TOGETHER, samples=48))


def test_alone_means_that_all_others_stay_in_float(measured):
    points, degrees = measured.alone.T

    assert points == pytest.approx([0.0025, 0.03, -0.005])  # what both cost together is not there
    assert degrees == pytest.approx([0.0, 1.5, 0.125])


def test_without_means_that_all_others_are_quantised(measured):
    points, degrees = measured.without.T

    assert points == pytest.approx([0.025, 0.0075, 0.0325])  # 3.75 points are lost in all, 1 of them by two layers
    assert degrees == pytest.approx([1.625, 0.125, 1.5])
    assert measured.whole == pytest.approx([0.0375, 1.625])


def test_a_layers_part_is_the_mean_of_both(measured):
    assert measured.gains()[:, 0] == pytest.approx([(0.25 + 1.25) / 200, (3 + 3) / 200, (-0.5 + 0.5) / 200])


def test_two_trials_a_layer_and_one_are_all_it_takes():
    trials = FakeTrials(LOSSES)

    measure_sensitivity(trials)

    everything = set(LOSSES)
    expected = [set(), *({name} for name in LOSSES), *(everything - {name} for name in LOSSES)]
    assert sorted(map(sorted, set(trials.asked))) == sorted(map(sorted, expected))


def test_whoever_waits_is_told_for_how_long(capsys):
    measure_sensitivity(FakeTrials(LOSSES, samples=48), progress=True)

    assert "6 trials on 48 samples take about 0 s" in capsys.readouterr().err


def test_columns_are_all_metrics_in_order_and_know_which_are_headlines():
    measured = measure_sensitivity(TwoMetrics(LOSSES))

    assert [(str(column), column.headline) for column in measured.columns] == [
        ("segmentation.mIoU", True),
        ("segmentation.PAcc", False),
        ("normals.mean_angle", True),
    ]
    assert measured.columns[0].form.unit == "share"


def test_the_table_has_a_row_for_each_layer_and_one_for_all(measured, tmp_path):
    measured.write_csv(tmp_path / "matrix.csv")

    rows = list(csv.DictReader((tmp_path / "matrix.csv").open(newline="")))

    assert [row["layer"] for row in rows] == [*LOSSES, "every layer"]
    fusion, every = rows[1], rows[-1]
    assert float(fusion["segmentation.mIoU alone"]) == pytest.approx(0.03)
    assert float(fusion["normals.mean_angle alone"]) == pytest.approx(1.5)
    assert float(fusion["segmentation.mIoU all but this"]) == pytest.approx(0.0075)
    assert float(every["segmentation.mIoU all but this"]) == pytest.approx(0.0375)
    assert every["segmentation.mIoU alone"] == ""


def test_the_heat_map_is_a_picture_that_grows_with_the_layers(measured, tmp_path):
    measured.draw(tmp_path / "few.png")
    measure_sensitivity(FakeTrials([(1.0, 1.0)] * 40)).draw(tmp_path / "many.png")

    few, many = (Image.open(tmp_path / name).size for name in ("few.png", "many.png"))
    assert many[1] > few[1] + 37 * 15  # pixels a row, at least: readable
    assert np.asarray(Image.open(tmp_path / "few.png").convert("L")).std() > 5


def test_only_headlines_are_drawn_and_told(tmp_path):
    measured = measure_sensitivity(TwoMetrics(LOSSES))

    measured.draw(tmp_path / "matrix.png")

    assert "PAcc" not in measured.text()


def test_the_text_names_the_worst_layers_first_in_the_metrics_units(measured):
    lines = measured.text(count=2).splitlines()

    assert lines[0].startswith("segmentation.mIoU: -3.75 points with every layer quantised")
    assert lines[1].split(":")[0].strip() == "fusions.0"
    assert "-3.00 points alone" in lines[1]
    assert "+3.00 points given back" in lines[1]
    assert lines[2].split(":")[0].strip() == "stem"
    assert lines[3].startswith("normals.mean_angle: +1.62 degrees")
    assert "-1.50 degrees given back" in lines[4]
    assert len(lines) == 6


def test_layers_that_were_not_measured_are_told_as_such():
    measured = measure_sensitivity(FakeTrials({"a": (float("nan"), 0.0), "b": (0.0, 0.0)}))

    assert "not measured" in measured.text()
