"""Resampling on the CPU against PyTorch, and against a reference in float64 that shares no code with it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional as F

from nddr_deploy import resample
from nddr_deploy.errors import InputError
from nddr_deploy.preprocess import Fit
from nddr_deploy.resize import CONVENTIONS, Convention, Grid

Floats = npt.NDArray[np.float32]
SIZES = [
    ((7, 5), (61, 33)),
    ((60, 80), (480, 640)),
    ((1, 1), (9, 11)),
    ((1, 6), (12, 5)),
    ((13, 9), (13, 9)),
    ((40, 50), (17, 23)),
]


def noise(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def smooth(classes: int, height: int, width: int) -> Floats:
    """Waves of a few pixels' length: large areas of one class, as a trained network gives."""
    generator = np.random.default_rng(3)
    y, x = np.mgrid[0:height, 0:width]
    frequencies, phases = generator.uniform(-0.5, 0.5, (classes, 2)), generator.uniform(0, 6.3, classes)
    waves = [np.sin(fy * y + fx * x + p) for (fy, fx), p in zip(frequencies, phases, strict=True)]
    return np.stack(waves).astype(np.float32)


def reference(values: Floats, grid: Grid) -> npt.NDArray[np.float64]:
    """Two float64 matrices, one per axis, each row with the two weights of one output line."""

    def matrix(coordinates: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
        distance = np.abs(coordinates[:, None] - np.arange(size)[None])
        return np.maximum(0.0, 1.0 - distance)

    rows, columns = matrix(grid.rows, grid.source_hw[0]), matrix(grid.columns, grid.source_hw[1])
    return np.einsum("yh,chw,xw->cyx", rows, values.astype(np.float64), columns, optimize=True)


def assert_same_but_for_ties(labels: npt.NDArray[np.uint8], scores: npt.NDArray[np.float64]) -> None:
    """The issue's rule: other labels only within 1e-5 of the range, at most 10 pixels in a million (or one)."""
    differ = labels != scores.argmax(axis=0)
    best, own = scores.max(axis=0), np.take_along_axis(scores, labels[None].astype(np.int64), axis=0)[0]
    assert (best - own).max() <= 1e-5 * np.ptp(scores)
    assert differ.sum() <= max(1, 1e-5 * differ.size)


@pytest.mark.parametrize(("source_hw", "size_hw"), SIZES)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_bilinear_equals_the_float64_reference(
    convention: Convention, source_hw: tuple[int, int], size_hw: tuple[int, int]
) -> None:
    values = noise(3, *source_hw)
    grid = Grid.between(source_hw, size_hw, convention)

    result = resample.bilinear(values, grid)

    assert result.dtype == np.float32
    assert result.shape == (3, *size_hw)
    np.testing.assert_allclose(result, reference(values, grid), atol=2e-6)  # a few float32 roundings of values up to 4


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("source_hw", "size_hw"), SIZES)
def test_bilinear_equals_pytorch(source_hw: tuple[int, int], size_hw: tuple[int, int], align_corners: bool) -> None:
    values = noise(4, *source_hw)
    expected = F.interpolate(torch.from_numpy(values[None]), size_hw, mode="bilinear", align_corners=align_corners)[0]

    result = resample.bilinear(values, Grid.between(source_hw, size_hw, _convention(align_corners)))

    # PyTorch forms coordinates up to 79 in float32, so that its weights are off by up to 4e-6.
    np.testing.assert_allclose(result, expected.numpy(), atol=5e-5)


@pytest.mark.parametrize("scores", [noise(40, 60, 80), smooth(40, 60, 80)], ids=["noise", "smooth"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size_hw", [(480, 640), (427, 571)])
def test_labels_equal_those_of_pytorch_but_for_ties(
    scores: Floats, size_hw: tuple[int, int], align_corners: bool
) -> None:
    expected = F.interpolate(torch.from_numpy(scores[None]), size_hw, mode="bilinear", align_corners=align_corners)[0]

    labels = resample.argmax_bilinear(scores, Grid.between((60, 80), size_hw, _convention(align_corners)))

    assert labels.dtype == np.uint8
    assert_same_but_for_ties(labels, expected.numpy())


@pytest.mark.parametrize("kind", [noise, smooth])
@pytest.mark.parametrize(("source_hw", "size_hw"), SIZES)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_labels_are_the_argmax_of_bilinear_to_the_last_pixel(
    convention: Convention, source_hw: tuple[int, int], size_hw: tuple[int, int], kind: type
) -> None:
    scores = kind(11, *source_hw)
    grid = Grid.between(source_hw, size_hw, convention)

    labels = resample.argmax_bilinear(scores, grid)

    np.testing.assert_array_equal(labels, resample.bilinear(scores, grid).argmax(axis=0))
    assert_same_but_for_ties(labels, reference(scores, grid))


@pytest.mark.parametrize("frame_hw", [(288, 352), (1080, 1920), (500, 200), (31, 47)])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_letterboxed_frames_read_only_their_part_of_the_map(frame_hw: tuple[int, int], convention: Convention) -> None:
    scores = smooth(9, 30, 40)
    grid = Fit.of(frame_hw, (240, 320)).grid((30, 40), convention)

    labels = resample.argmax_bilinear(scores, grid)

    assert labels.shape == frame_hw
    np.testing.assert_array_equal(labels, resample.bilinear(scores, grid).argmax(axis=0))
    assert_same_but_for_ties(labels, reference(scores, grid))


def test_a_mirrored_grid_gives_mirrored_labels() -> None:
    scores = noise(6, 8, 9)
    grid = Grid.between((8, 9), (64, 72), "half_pixel")
    mirrored = Grid((8, 9), grid.rows, grid.columns[::-1])

    labels = resample.argmax_bilinear(scores, mirrored)

    np.testing.assert_array_equal(labels, resample.argmax_bilinear(scores, grid)[:, ::-1])


def test_a_pixel_between_four_samples_is_their_weighted_sum() -> None:
    values = np.array([[0.0, 10.0], [20.0, 30.0]], dtype=np.float32)
    grid = Grid((2, 2), np.array([0.25]), np.array([0.5]))

    assert resample.bilinear(values, grid).tolist() == [[10.0]]  # 0.75 * (0 + 10) / 2 + 0.25 * (20 + 30) / 2


@pytest.mark.parametrize("size_hw", [(16, 16), (2, 2)], ids=["cell by cell", "row by row"])
def test_the_lowest_class_wins_a_tie(size_hw: tuple[int, int]) -> None:
    scores = np.zeros((5, 2, 2), dtype=np.float32)
    scores[[2, 4]] = 1.5

    assert np.unique(resample.argmax_bilinear(scores, Grid.between((2, 2), size_hw, "align_corners"))).tolist() == [2]


@pytest.mark.parametrize("size_hw", [(32, 32), (5, 6)], ids=["cell by cell", "row by row"])
def test_a_class_whose_score_is_nan_does_not_win(size_hw: tuple[int, int]) -> None:
    scores = noise(5, 4, 4)
    scores[3] = 100
    scores[3, 1, 2] = np.nan
    scores[4] = -np.inf
    grid = Grid.between((4, 4), size_hw, "half_pixel")

    labels = resample.argmax_bilinear(scores, grid)

    values = resample.bilinear(scores, grid)
    assert np.isnan(values[3]).any()
    np.testing.assert_array_equal(labels, np.where(np.isnan(values), -np.inf, values).argmax(axis=0))


def test_where_every_score_is_nan_the_label_is_0() -> None:
    labels = resample.argmax_bilinear(np.full((3, 2, 2), np.nan), Grid.between((2, 2), (8, 8), "half_pixel"))

    assert not labels.any()


def test_nearest_reads_the_closest_pixel() -> None:
    labels = np.array([[1, 2], [3, 4]], dtype=np.uint8)

    larger = resample.nearest(labels, Grid.between((2, 2), (4, 6), "half_pixel"))
    smaller = resample.nearest(larger, Grid.between((4, 6), (2, 2), "half_pixel"))

    assert larger.tolist() == [[1, 1, 1, 2, 2, 2]] * 2 + [[3, 3, 3, 4, 4, 4]] * 2
    assert smaller.tolist() == labels.tolist()


def test_a_result_never_shares_memory_with_its_source() -> None:
    values = noise(2, 4, 5)
    same = Grid.between((4, 5), (4, 5), "half_pixel")

    for result in (resample.bilinear(values, same), resample.bilinear(values, None), resample.nearest(values[0], same)):
        assert not np.shares_memory(result, values)
    np.testing.assert_array_equal(resample.bilinear(values, same), values)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_vectors_of_any_length_get_length_1(scale: float) -> None:
    planes = np.float32([3, 0, -4]).reshape(3, 1, 1) * np.float32(scale)

    assert resample.unit_vectors(planes).ravel().tolist() == pytest.approx([0.6, 0.0, -0.8], abs=1e-6)


def test_a_zero_vector_faces_the_camera_and_nan_stays() -> None:
    planes = np.zeros((3, 1, 2), dtype=np.float32)
    planes[1, 0, 1] = np.nan

    vectors = resample.unit_vectors(planes)

    assert vectors[0, 0].tolist() == [0, 0, -1]
    assert np.isnan(vectors[0, 1]).all()


def test_a_grid_of_another_map_is_refused() -> None:
    grid = Grid.between((4, 5), (8, 10), "half_pixel")

    for call in (resample.bilinear, resample.argmax_bilinear):
        with pytest.raises(InputError, match=r"\(4, 5\).*\(5, 4\)"):
            call(noise(2, 5, 4), grid)
    with pytest.raises(InputError, match=r"\(4, 5\).*\(5, 4\)"):
        resample.nearest(noise(5, 4), grid)


@pytest.mark.parametrize("row", [-0.1, 3.01, np.nan, 1e30])
def test_a_grid_that_reads_outside_its_map_is_refused(row: float) -> None:
    grid = Grid((4, 4), np.array([0.0, row]), np.array([0.0, 1.0]))

    with pytest.raises(InputError, match="must lie in 0 to 3"):
        resample.bilinear(noise(1, 4, 4), grid)


def test_more_classes_than_a_label_can_hold_are_refused() -> None:
    with pytest.raises(InputError, match="257"):
        resample.argmax_bilinear(noise(257, 2, 2), None)


def test_kernels_run_where_no_folder_can_hold_their_cache() -> None:
    script = (
        "import numpy as np\nfrom nddr_deploy import resample\nfrom nddr_deploy.resize import Grid\n"
        "print(resample.bilinear(np.float32([[0, 1]]), Grid.between((1, 2), (1, 3), 'align_corners')).tolist())"
    )
    unwritable = {"NUMBA_CACHE_DIR": "/proc/none", "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}

    run = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **unwritable}, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[[0.0, 0.5, 1.0]]"


def _convention(align_corners: bool) -> Convention:
    return "align_corners" if align_corners else "half_pixel"
