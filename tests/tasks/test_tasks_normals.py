from __future__ import annotations

import numpy as np
import pytest

from nddr_deploy.errors import InputError
from nddr_deploy.resize import Grid
from nddr_deploy.tasks import Normals, task_from_dict
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


def sphere(steps: int = 60) -> np.ndarray:
    """Unit vectors in every direction, (N, 3) float64."""
    polar, around = np.meshgrid(np.linspace(0, np.pi, steps), np.linspace(0, 2 * np.pi, 2 * steps))
    vectors = [np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)]
    return np.stack(vectors, axis=-1).reshape(-1, 3)


def colours(normals: np.ndarray) -> np.ndarray:
    """What a network that learned colours may give for normals (N, 3): their colours times any length, (3, 1, N)."""
    lengths = np.random.default_rng(0).uniform(0.01, 3, (len(normals), 1))
    return ((normals + 1) * 127.5 * lengths).T[:, None].astype(np.float32)


def test_a_colour_of_any_length_tells_its_normal() -> None:
    normals = sphere()
    total = normals.sum(axis=1)
    told = total >= -1

    decoded = Normals(coding="colour").decode(colours(normals))[0]

    # Where the components add up to -1 both roots meet, and float32's rounding of the colour is under a root.
    clear = total >= -0.99
    assert clear.mean() > 0.7
    assert angles_between(decoded[clear], normals[clear]).max() < 0.001  # degrees
    assert angles_between(decoded[told], normals[told]).max() < 0.01


def test_colours_that_two_normals_share_and_colours_of_none_give_unit_vectors() -> None:
    shared = colours(sphere()[sphere().sum(axis=1) < -1.001])
    no_normal = np.float32([[[255, 0, -3, 1e-30]], [[0, 9, -1, 0]], [[0, -20, 5, 0]]])

    for raw in (shared, no_normal):
        lengths = np.linalg.norm(Normals(coding="colour").decode(raw), axis=-1)
        np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_a_colour_decoded_after_the_resize_is_the_normal_of_the_colour_in_between() -> None:
    raw = np.float32([[[0, 255]], [[128, 128]], [[128, 128]]])  # pictures of left and right

    decoded = Normals(coding="colour").decode(raw, Grid((1, 2), np.zeros(1), np.array([0, 0.5, 1.0])))

    # In the middle grey, which is closest to the colour of (1, 1, 1): not one of the two nor between them.
    np.testing.assert_allclose(decoded[0], [[-1, 0, 0], [3**-0.5] * 3, [1, 0, 0]], atol=0.02)


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        (("right", "down", "away"), (0.6, 0.0, -0.8)),
        (("left", "up", "toward"), (-0.6, 0.0, 0.8)),
        (("right", "up", "toward"), (0.6, 0.0, 0.8)),
        (("right", "away", "up"), (0.6, 0.8, 0.0)),
        (("toward", "left", "down"), (0.0, -0.8, -0.6)),
        (None, (0.6, 0.0, -0.8)),
    ],
)
@pytest.mark.parametrize("coding", ["vector", "colour"])
def test_components_are_brought_to_the_axes_of_the_camera(
    coding: str, axes: tuple[str, str, str] | None, expected: tuple[float, float, float]
) -> None:
    task = task_from_dict({"kind": "normals", "name": "normals", "coding": coding, "axes": axes})
    learned = np.array([0.6, 0.0, -0.8])
    raw = 7 * (learned if coding == "vector" else learned + 1)

    decoded = task.decode(raw.astype(np.float32).reshape(3, 1, 1))

    np.testing.assert_allclose(decoded[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("axes", [("right", "down", "away"), ("left", "up", "toward"), None])
@pytest.mark.parametrize("coding", ["vector", "colour"])
def test_no_direction_faces_the_camera_whatever_the_axes_and_nan_stays(coding: str, axes: object) -> None:
    task = task_from_dict({"kind": "normals", "coding": coding, "axes": axes})
    raw = np.float32([[[0, np.nan]], [[0, 1]], [[0, 1]]])

    decoded = task.decode(raw)

    assert decoded[0, 0].tolist() == [0, 0, -1]
    assert np.isnan(decoded[0, 1]).all()


def test_a_manifest_that_says_nothing_of_coding_and_axes_means_plain_vectors() -> None:
    assert task_from_dict({"kind": "normals", "name": "normals"}) == Normals("normals")
    assert Normals().options() == {"coding": "vector", "axes": ["right", "down", "away"]}
    assert Normals(axes=None).options()["axes"] is None


def test_axes_that_are_not_known_are_drawn_in_the_plain_code_without_a_legend() -> None:
    task = Normals(coding="colour", axes=None)
    learned = np.float32([[[1, 0, 0], [0, -1, 0], [0, 0, 0]]])

    picture = task.render(learned, np.zeros((1, 3, 3), np.uint8))

    assert picture.tolist() == [[[255, 128, 128], [128, 0, 128], [0, 0, 0]]]  # (n + 1) * 255 / 2; unknown is black
    assert task.legend() == []
    assert task.flip(learned)[0, 2].tolist() == [-1, 0, 0]
