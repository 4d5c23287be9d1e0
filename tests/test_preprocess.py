"""Frames into the model's size, and results back to the frame's own pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.preprocess import Fit, Preprocess
from nddr_deploy.resize import CONVENTIONS


def test_letterbox_centres_a_wide_frame_and_keeps_its_shape() -> None:
    fit = Fit.of((100, 400), (480, 640))

    assert (fit.top, fit.left, fit.height, fit.width) == (160, 0, 160, 640)


def test_stretch_fills_the_image() -> None:
    fit = Fit.of((100, 400), (480, 640), "stretch")

    assert (fit.top, fit.left, fit.height, fit.width) == (0, 0, 480, 640)


def test_a_frame_of_the_models_size_passes_untouched() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)

    assert Fit.of((48, 64), (48, 64)).apply(frame) is frame


def test_the_border_of_a_letterbox_has_the_padding_colour_and_the_content_lies_in_the_rectangle() -> None:
    image = Fit.of((10, 40), (48, 64)).apply(np.full((10, 40, 3), 200, np.uint8), padding=(1, 2, 3))

    assert image[0, 0].tolist() == [1, 2, 3]
    assert (image[16:32] == 200).all()
    assert (image[:16] == (1, 2, 3)).all()
    assert (image[32:] == (1, 2, 3)).all()


@pytest.mark.parametrize("mode", ["letterbox", "stretch"])
@pytest.mark.parametrize("frame_hw", [(37, 91), (96, 33), (480, 640), (1, 1)])
def test_results_come_back_to_the_pixel_they_belong_to(mode: str, frame_hw: tuple[int, int]) -> None:
    """A model that returns its own input coordinates must, brought back, name each frame pixel's place."""
    fit = Fit.of(frame_hw, (96, 128), mode)

    grid = fit.grid((96, 128))

    for found, extent, start, size in [
        (grid.rows, fit.height, fit.top, frame_hw[0]),
        (grid.columns, fit.width, fit.left, frame_hw[1]),
    ]:
        centre_in_rectangle = (found - start + 0.5) / extent * size - 0.5
        inside = np.abs(centre_in_rectangle - np.arange(size)) <= 0.5 * max(1, size / extent)  # clamped at the borders
        assert inside.all()
        middle = size // 2
        assert centre_in_rectangle[middle] == pytest.approx(middle, abs=1e-9) or size == 1


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_grid_never_leaves_the_map_and_is_monotonic(convention: str) -> None:
    grid = Fit.of((201, 77), (65, 97)).grid((9, 13), convention)

    for found, size in [(grid.rows, 9), (grid.columns, 13)]:
        assert found.min() >= 0
        assert found.max() <= size - 1
        assert (np.diff(found) >= 0).all()
    assert grid.size_hw == (201, 77)


def test_normalisation_by_hand() -> None:
    images = np.zeros((1, 1, 1, 3), np.uint8)
    images[0, 0, 0] = (255, 0, 51)

    values = Preprocess(scale=1 / 255, mean=(0.5, 0.5, 0.1), std=(0.5, 0.25, 0.1)).apply(images)

    assert values.reshape(3).tolist() == pytest.approx([1.0, -2.0, 1.0], abs=1e-6)


def test_bgr_swaps_channels_before_the_mean_is_taken_off() -> None:
    images = np.array([[[[10, 20, 30]]]], np.uint8)

    values = Preprocess(scale=1.0, mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 1.0), order="bgr").apply(images)

    assert values.reshape(3).tolist() == [29.0, 18.0, 7.0]


def test_the_padding_colour_is_the_mean_in_rgb_whatever_the_order() -> None:
    caffe = Preprocess(scale=1.0, mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0), order="bgr")

    assert caffe.mean_pixel == (123, 117, 104)


def test_a_frame_of_another_shape_or_type_is_refused_with_both_shapes() -> None:
    with pytest.raises(InputError, match=r"\(10, 20, 3\); got float64 \(10, 20, 3\)"):
        Fit.of((10, 20), (48, 64)).apply(np.zeros((10, 20, 3)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values", [{"std": (1.0, 0.0, 1.0)}, {"scale": 0.0}, {"scale": math.nan}, {"mean": (math.inf, 0.0, 0.0)}]
)
def test_numbers_that_pictures_cannot_be_scaled_by_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected a positive scale, three means and three positive deviations, all"):
        Preprocess(**values)


def test_an_unknown_fit_is_named_with_its_choices() -> None:
    with pytest.raises(ConfigError, match="letterbox, stretch"):
        Fit.of((1, 1), (2, 2), "crop")  # type: ignore[arg-type]
