"""The numbers of a quantised graph, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nddr_deploy.errors import ConfigError
from nddr_deploy.graph.calibration import Range
from nddr_deploy.graph.rounding import (
    activation_step,
    bias_integers,
    bias_steps,
    least_weight_steps,
    weight_integers,
    weight_steps,
)


def test_unsigned_steps_cover_the_union_of_the_ranges_and_zero() -> None:
    ranges = {"relu": Range(0.5, 2.0), "signed": Range(-1.0, 1.55)}

    assert activation_step(["relu"], ranges, "cpu") == (pytest.approx(2 / 255), 0)  # zero itself stays exact
    assert activation_step(["signed"], ranges, "cpu") == (pytest.approx(2.55 / 255), 100)
    assert activation_step(["relu", "signed"], ranges, "cpu") == (pytest.approx(3 / 255), 85)


@pytest.mark.parametrize("target", ["tensorrt", "tensorrt8"])
def test_signed_steps_are_symmetric(target: Any) -> None:
    step, zero = activation_step(["x"], {"x": Range(-2.0, 1.0)}, target)

    assert (step, zero) == (pytest.approx(2 / 127, rel=1e-3), 0)
    assert step * 127 >= 2.0 * (1 - 1e-7)  # rounded up where it is rounded to FP16, so the largest value still fits


@pytest.mark.parametrize("largest", [0.3, 1.0, 7.7, 900.0])
def test_for_tensorrt_steps_are_numbers_that_fp16_has(largest: float) -> None:
    step, _ = activation_step(["x"], {"x": Range(0.0, largest)}, "tensorrt")

    assert np.float16(step) == step
    assert largest / 127 <= step <= largest / 127 * (1 + 2**-10)


def test_for_tensorrt_steps_do_not_fall_below_what_fp16_holds_well() -> None:
    step, _ = activation_step(["x"], {"x": Range(0.0, 1e-5)}, "tensorrt")
    steps = weight_steps(np.array([[1.0], [1e-6]]), 0, 127, "tensorrt")

    assert step == steps[1] == 2**-14
    assert weight_steps(np.array([[1.0], [1e-6]]), 0, 127, "tensorrt8")[1] == pytest.approx(1e-6 / 127)


def test_what_was_always_zero_has_the_step_one() -> None:
    for target in ("cpu", "tensorrt", "tensorrt8"):
        assert activation_step(["x"], {"x": Range(0.0, 0.0)}, target) == (1.0, 0)  # type: ignore[arg-type]


def test_a_range_that_is_missing_or_none_is_refused_with_its_tensor() -> None:
    with pytest.raises(ConfigError, match=r"nothing is known of 'x'. Calibrate the very model"):
        activation_step(["x"], {}, "cpu")
    for low, high in ((0.0, np.nan), (-np.inf, 1.0), (2.0, 1.0)):
        with pytest.raises(ConfigError, match=r"'x' goes from .*; expected two finite numbers in order"):
            activation_step(["x"], {"x": Range(low, high)}, "cpu")


def test_weights_have_one_step_per_output_channel_along_its_axis() -> None:
    values = np.array([[1.27, -0.5], [-2.54, 0.25]])

    assert weight_steps(values, 0, 127, "cpu") == pytest.approx([0.01, 0.02])
    assert weight_steps(values, 1, 127, "cpu") == pytest.approx([0.02, 0.5 / 127])
    assert weight_integers(values, np.array([0.01, 0.02]), 0, 127).tolist() == [[127, -50], [-127, 12]]
    assert weight_integers(values, np.array([0.01, 0.02]), 0, 127).dtype == np.int8


def test_reduced_weights_stay_within_64() -> None:
    values = np.array([[0.64, -0.32]])

    steps = weight_steps(values, 0, 64, "cpu")

    assert weight_integers(values, steps, 0, 64).tolist() == [[64, -32]]


def test_a_channel_of_zeros_has_the_largest_step_of_the_others() -> None:
    assert weight_steps(np.array([[0.0, 0.0], [1.27, 0.0], [2.54, 0.0]]), 0, 127, "cpu") == pytest.approx(
        [0.02, 0.01, 0.02]
    )
    assert weight_steps(np.zeros((2, 3)), 0, 127, "cpu") == pytest.approx([1.0, 1.0])


def test_a_bias_is_on_the_grid_of_the_products() -> None:
    steps = bias_steps(0.5, np.array([0.01, 0.02]))

    assert steps == pytest.approx([0.005, 0.01])
    assert bias_integers(np.array([1.0, -0.034]), steps).tolist() == [200, -3]


def test_a_large_bias_over_tiny_weights_makes_the_weights_coarser_instead_of_being_cut() -> None:
    values, bias = np.array([[1e-12], [1.27]]), np.array([30.0, 30.0])
    steps = weight_steps(values, 0, 127, "cpu", least_weight_steps(bias, 0.1))

    found = bias_steps(0.1, steps)

    assert found * bias_integers(bias, found) == pytest.approx(bias, rel=1e-6)
    assert steps[1] == pytest.approx(0.01)  # the other channel keeps its step
