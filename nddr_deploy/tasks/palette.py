"""Colours that tell classes apart."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nddr_deploy.errors import ConfigError

Colour = tuple[int, int, int]


def as_colour(value: Any) -> Colour:
    """An RGB colour from any three whole numbers 0 to 255."""
    try:
        red, green, blue = (int(part) for part in value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"A colour is three numbers 0 to 255 (red, green, blue); got {value!r}.") from error
    if not 0 <= min(red, green, blue) <= max(red, green, blue) <= 255:
        raise ConfigError(f"A colour is three numbers 0 to 255 (red, green, blue); got {value!r}.")
    return red, green, blue


def as_palette(values: Any) -> tuple[Colour, ...]:
    """RGB colours from any list of them."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigError(f"A palette is a list of colours, each three numbers 0 to 255; got {values!r}.")
    return tuple(map(as_colour, values))


@cache
def distinct_colours(count: int) -> tuple[Colour, ...]:
    """`count` <= 256 colours, each as far as possible from all before it, in CIELAB.

    A longer palette begins with the shorter one. Nearly black is left out, for it means "not labelled", and so are
    nearly white and the most glaring colours.
    """
    steps = np.linspace(0, 255, 18).round()
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _lab(candidates)
    usable = (lab[:, 0] > 35) & (lab[:, 0] < 93) & (np.hypot(lab[:, 1], lab[:, 2]) < 75)
    candidates, lab = candidates[usable], lab[usable]
    chosen = [int(np.argmin(np.linalg.norm(lab - _lab(np.array([[31.0, 119.0, 180.0]])), axis=1)))]
    distance = np.full(len(lab), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return tuple(as_colour(candidates[index]) for index in chosen[:count])


def _lab(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """sRGB 0..255 (N, 3) -> CIELAB, white D65: equal distances look about equally different."""
    value = rgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    curve = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = curve.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
