"""Pictures to compare two forms of a model on: unlike each other, and the same on every machine."""

from __future__ import annotations

import numpy as np

from nddr_deploy.preprocess import Image


def probe_images(size_hw: tuple[int, int], count: int = 3) -> Image:
    """uint8 (count, H, W, 3): in turn noise, smooth gradients, and a picture of flat shapes with sharp edges.

    Noise reaches every value up to the borders, gradients are what resizing conventions differ on most, and shapes
    are nearest to what a network sees.
    """
    makers = (_noise, _gradients, _shapes)
    return np.stack([makers[place % len(makers)](size_hw, np.random.default_rng(place)) for place in range(count)])


def _noise(size_hw: tuple[int, int], rng: np.random.Generator) -> Image:
    return rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def _gradients(size_hw: tuple[int, int], rng: np.random.Generator) -> Image:
    rows, columns = np.linspace(0, 1, size_hw[0])[:, None], np.linspace(0, 1, size_hw[1])[None]
    waves = [np.sin(6 * rng.random() * rows + 6 * rng.random() * columns + 6 * rng.random()) for _ in range(3)]
    return np.round(127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8)


def _shapes(size_hw: tuple[int, int], rng: np.random.Generator) -> Image:
    height, width = size_hw
    picture = np.full((height, width, 3), rng.integers(0, 256, 3), dtype=np.uint8)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    for number in range(12):
        row, column = rng.integers(0, height), rng.integers(0, width)
        half_h, half_w = 1 + rng.integers(0, max(1, height // 3)), 1 + rng.integers(0, max(1, width // 3))
        down, across = np.abs(rows - row) / half_h, np.abs(columns - column) / half_w
        inside = np.hypot(down, across) < 1 if number % 2 else np.maximum(down, across) < 1
        picture[inside] = rng.integers(0, 256, 3)
    return picture
