"""The numbers of a quantised graph: steps of activations, integers of weights and biases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite

import numpy as np

from nddr_deploy.errors import ConfigError
from nddr_deploy.graph.calibration import Range
from nddr_deploy.graph.lint_rule import Target
from nddr_deploy.tasks.base import Array

SMALLEST_HALF = 2.0**-14  # FP16's smallest normal number; below, a step has fewer and fewer bits
LARGEST_BIAS = 2.0**30  # half of what an int32 holds; the products are added to it
WEIGHT, REDUCED_WEIGHT = 127, 64  # the largest; two products of 64 and 255 fit into 16 bits


def activation_step(tensors: Iterable[str], ranges: Mapping[str, Range], target: Target) -> tuple[float, int]:
    """The step and the zero point that tensors share; their union with 0 fits.

    Unsigned and asymmetric for "cpu", signed and symmetric for TensorRT. What never was anything but 0 has the step 1.

    Raises:
        ConfigError: a tensor without a range, or one whose range is none.
    """
    low, high = 0.0, 0.0
    for name in tensors:
        found = ranges.get(name)
        if found is None:
            raise ConfigError(
                f"ranges: nothing is known of {name!r}. Calibrate the very model that is quantised, on the tensors "
                "that `observed` names for this target."
            )
        if not (isfinite(found.low) and isfinite(found.high) and found.low <= found.high):
            raise ConfigError(
                f"ranges: {name!r} goes from {found.low:g} to {found.high:g}; expected two finite numbers in order. "
                "Calibrate again, and look at the images and the weights."
            )
        low, high = min(low, found.low), max(high, found.high)
    if target != "cpu":
        return float(_representable(np.array(max(-low, high) / 127), target)), 0
    step = float(_representable(np.array((high - low) / 255), target))
    return step, int(np.clip(np.rint(-low / step), 0, 255))


def weight_steps(values: Array, axis: int, most: int, target: Target, least: Array | None = None) -> Array:
    """One step per output channel, (C,) float32. A channel of zeros has the largest step of the others.

    Args:
        values: a layer's weights.
        axis: of its output channels.
        most: the largest integer.
        least: (C,), what no step may be smaller than.
    """
    others = tuple(place for place in range(values.ndim) if place != axis)
    steps = np.abs(values).max(axis=others).astype(np.float64) / most
    steps = np.where(steps > 0, steps, steps.max(initial=0.0))
    if least is not None:
        steps = np.maximum(steps, least)
    return _representable(steps, target)


def weight_integers(values: Array, steps: Array, axis: int, most: int) -> Array:
    """int8, of the shape of the weights."""
    along = steps.astype(np.float64).reshape([-1 if place == axis else 1 for place in range(values.ndim)])
    integers: Array = np.clip(np.rint(values / along), -most, most).astype(np.int8)
    return integers


def bias_steps(activation: float, weights: Array) -> Array:
    """(C,) float32: of the products, so that a bias is added to them as it is."""
    return (np.float32(activation) * weights.astype(np.float32)).astype(np.float32)


def bias_integers(bias: Array, steps: Array) -> Array:
    """int32, (C,)."""
    integers: Array = np.rint(bias.astype(np.float64) / steps.astype(np.float64)).astype(np.int32)
    return integers


def least_weight_steps(bias: Array, activation: float) -> Array:
    """(C,) the weights' steps below which the bias would not fit into its int32."""
    least: Array = np.abs(bias.astype(np.float64)) / (LARGEST_BIAS * activation)
    return least


def _representable(steps: Array, target: Target) -> Array:
    """Steps as float32, at least the smallest that computing with them is exact for; 1 in place of 0.

    For "tensorrt" they are numbers that FP16 has, rounded up, so that they do not change where the graph becomes FP16
    and the largest value still fits.
    """
    steps = np.where(steps > 0, steps, 1.0)
    if target != "tensorrt":
        return np.maximum(steps, np.finfo(np.float32).tiny * 2.0**24).astype(np.float32)
    steps = np.maximum(steps, SMALLEST_HALF)
    halves = steps.astype(np.float16)
    return np.where(halves < steps, np.nextafter(halves, np.float16(np.inf)), halves).astype(np.float32)
