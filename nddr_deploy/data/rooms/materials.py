"""Random surfaces. Colours and textures are drawn without regard to what will wear them, so that they tell no class."""

from __future__ import annotations

import colorsys

import numpy as np

from nddr_deploy.data.rooms.scene import MATERIAL, Floats, Rows

TEXTURES = 8  # kinds in `shade`
# metres per repetition, smallest and largest; in the order of `shade`: plain, stripes, checks, tiles, wood, ...
PERIODS = ((0.2, 0.5), (0.12, 0.4), (0.18, 0.5), (0.25, 0.6), (0.1, 0.2), (0.3, 0.9), (0.12, 0.35), (0.12, 0.35))
SHARES = (0.36, 0.08, 0.07, 0.12, 0.18, 0.09, 0.05, 0.05)


def linear(colour: Floats) -> Floats:
    """sRGB 0..1 -> linear light."""
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def draw_materials(rng: np.random.Generator, count: int) -> Rows:
    """Hues that go together, each with a texture and a darker or lighter second colour: (count,) of MATERIAL."""
    base = rng.random()
    materials = np.zeros(count, dtype=MATERIAL)
    for index in range(count):
        hue = (base + rng.choice([0.0, 0.06, -0.06, 0.45, 0.5, 0.12]) + rng.normal(0, 0.03)) % 1
        saturation, value = 0.04 + 0.62 * rng.beta(1.5, 2.4), rng.uniform(0.4, 0.97)
        first = np.array(colorsys.hsv_to_rgb(hue, saturation, value))
        contrast = rng.uniform(0.6, 0.85) if value > 0.55 else rng.uniform(1.25, 1.6)
        second = np.array(
            colorsys.hsv_to_rgb(
                (hue + rng.normal(0, 0.03)) % 1, saturation * rng.uniform(0.7, 1.1), min(1, value * contrast)
            )
        )
        first, second = linear(first), linear(second)
        kind = int(rng.choice(TEXTURES, p=SHARES))
        low, high = PERIODS[kind]
        turn = rng.choice([0.0, 0.5 * np.pi]) if rng.random() < 0.8 else rng.choice([-0.25, 0.25]) * np.pi
        materials[index] = (
            (kind, int(rng.integers(1 << 16)), *first, *second, rng.uniform(low, high), np.cos(turn), np.sin(turn))
        )  # fmt: skip
    return materials
