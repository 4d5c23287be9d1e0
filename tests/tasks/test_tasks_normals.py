from __future__ import annotations

import numpy as np
import pytest

from nddr_deploy.errors import InputError
from nddr_deploy.resize import Grid
from nddr_deploy.tasks import Normals
from nddr_deploy.tasks.normals import NormalsMetric, angles_between

TASK = Normals()
WALL = np.array([[[0, 0, -1]]], dtype=np.float32)  # faces the camera


def turned(degrees: float) -> np.ndarray:
    """The wall's normal turned to the right."""
    radians = np.radians(degrees)
    return np.array([[[np.sin(radians), 0, -np.cos(radians)]]], dtype=np.float32)


def test_decoding_gives_unit_vectors_of_the_resized_map() -> None:
    raw = np.zeros((3, 1, 2), dtype=np.float32)
    raw[:, 0, 0] = 0, 0, -2
    raw[:, 0, 1] = 2, 0, 0

    decoded = TASK.decode(raw, Grid((1, 2), np.zeros(1), np.array([0, 0.5, 1.0])))

    half = 0.5**0.5
    np.testing.assert_allclose(decoded, [[[0, 0, -1], [half, 0, -half], [1, 0, 0]]], atol=1e-7)


def test_metrics_by_hand() -> None:
    metric = TASK.metric()

    for degrees in (0, 10, 20, 40):
        metric.update(turned(degrees), WALL)

    result = metric.result()
    assert result["mean_angle"] == pytest.approx(17.5, abs=1e-4)
    assert result["median_angle"] == pytest.approx(15, abs=0.001)  # between 10 and 20
    assert [result[f"within_{t}"] for t in ("11.25", "22.5", "30")] == [0.5, 0.75, 0.75]


def test_the_median_of_many_angles_is_within_half_a_bin_of_the_exact_one() -> None:
    generator = np.random.default_rng(0)
    angles = generator.gamma(2.0, 8.0, size=(3, 4001)).clip(0, 180)
    metric = TASK.metric()

    for row in np.radians(angles):
        found = np.stack([np.sin(row), np.zeros_like(row), -np.cos(row)], axis=-1)[None]
        metric.update(found, np.broadcast_to(WALL, found.shape))

    assert metric.result()["median_angle"] == pytest.approx(np.median(angles), abs=0.0005 + 1e-9)
    assert metric.result()["mean_angle"] == pytest.approx(angles.mean(), abs=1e-9)


def test_an_angle_on_the_threshold_is_within_unless_asked_otherwise() -> None:
    inclusive, strict = NormalsMetric(thresholds=(90,)), NormalsMetric(thresholds=(90,), inclusive=False)

    for metric in (inclusive, strict):
        metric.update(np.array([[[1, 0, 0]]], dtype=np.float32), WALL)  # 90 degrees to the last bit

    assert (inclusive.result()["within_90"], strict.result()["within_90"]) == (1, 0)


def test_missing_normals_are_left_out() -> None:
    metric = TASK.metric()

    metric.update(np.concatenate([turned(10), turned(90)]), np.concatenate([WALL, np.zeros_like(WALL)]))

    assert metric.result()["mean_angle"] == pytest.approx(10, abs=1e-4)


@pytest.mark.parametrize("wrong", [np.nan, 0.0])
def test_a_prediction_without_a_direction_is_refused_and_never_counted(wrong: float) -> None:
    with pytest.raises(InputError, match="NaN or zero"):
        TASK.metric().update(np.full_like(WALL, wrong), WALL)


def test_small_angles_keep_their_digits_in_float32_normals() -> None:
    first, second = turned(0.001).reshape(1, 3), WALL.reshape(1, 3)

    assert angles_between(first, second)[0] == pytest.approx(
        0.001, rel=1e-6
    )  # arccos of a float32 product would give 0
    assert angles_between(-second, second)[0] == pytest.approx(180)
    assert angles_between(3 * first, 0.1 * second)[0] == pytest.approx(0.001, rel=1e-5)


def test_flipping_mirrors_and_negates_x() -> None:
    target = np.array([[[0.6, 0, -0.8], [0, -1, 0]]], dtype=np.float32)

    flipped = TASK.flip(target)

    assert flipped.dtype == np.float32
    np.testing.assert_array_equal(flipped, np.float32([[[0, -1, 0], [-0.6, 0, -0.8]]]))


def test_flipping_twice_changes_nothing() -> None:
    target = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)

    np.testing.assert_array_equal(TASK.flip(TASK.flip(target)), target)


def test_colours_are_right_red_up_green_toward_blue_and_missing_black() -> None:
    normals = np.array([[[1, 0, 0], [0, -1, 0], [0, 0, -1], [-1, 0, 0], [0, 0, 0]]], dtype=np.float32)

    picture = TASK.render(normals, np.zeros((1, 5, 3), np.uint8))

    assert picture[0, :, 0].tolist() == [255, 128, 128, 0, 0]
    assert picture[0, :, 1].tolist() == [127, 255, 127, 127, 0]
    assert picture[0, :, 2].tolist() == [127, 127, 255, 127, 0]
    assert [colour for _, colour in TASK.legend()] == [tuple(colour) for colour in picture[0, :3].tolist()]


def test_resampling_keeps_length_1() -> None:
    normals = np.concatenate([WALL, turned(80)], axis=1)

    larger = TASK.resample(normals, Grid.between((1, 2), (3, 9), "align_corners"))

    assert larger.shape == (3, 9, 3)
    np.testing.assert_allclose(np.linalg.norm(larger, axis=2), 1, atol=1e-6)
    np.testing.assert_allclose(larger[1, 4], turned(40)[0, 0], atol=1e-6)
