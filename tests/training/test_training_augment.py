"""All variations together leave image and targets aligned; hues turn and greys stay."""

from __future__ import annotations

import colorsys
from itertools import product

import numpy as np
import pytest

from nddr_deploy.errors import ConfigError
from nddr_deploy.tasks import Age, Binary, Depth, Normals, Segmentation
from nddr_deploy.training.augment import augment
from nddr_deploy.training.config import AugmentConfig

TASKS = (Segmentation(classes=tuple("abcdefgh")), Normals(), Depth(max_m=50.0), Binary("edge"), Age())
PADDING = (9, 9, 9)


def tiles(height: int, width: int, side: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Tiles of one colour each that tells all targets: red the label, green the depth, blue the normal's x."""
    rows, columns = np.meshgrid(np.arange(height) // side, np.arange(width) // side, indexing="ij")
    labels = ((rows * 3 + columns * 5) % 8).astype(np.uint8)
    depth = (1 + (rows * 7 + columns * 3) % 20).astype(np.float32)
    x = (((rows + 2 * columns) % 5) - 2).astype(np.float32) * 0.3  # -0.6 .. 0.6
    normals = np.stack([x, np.zeros_like(x), -np.sqrt(1 - x * x)], axis=2)
    image = np.stack([labels * 30, depth * 12, 100 + x * 100], axis=2).round().astype(np.uint8)
    edge = (labels == 3).astype(np.uint8)
    targets = {"segmentation": labels, "normals": normals, "depth": depth, "edge": edge}
    return image, {**targets, "age": np.array(30.0, np.float32)}


@pytest.mark.parametrize(
    ("size_hw", "crop_hw", "scale"),
    list(product([(41, 57), (64, 48)], [None, (33, 37), (90, 91)], [(1.0, 1.0), (0.5, 1.5), (1.7, 1.7)])),
)
def test_every_pixel_keeps_its_own_targets_whatever_is_done(
    size_hw: tuple[int, int], crop_hw: tuple[int, int] | None, scale: tuple[float, float]
) -> None:
    settings = AugmentConfig(flip=True, scale=scale, crop_hw=crop_hw)
    mirrored = set()
    for seed in range(6):
        image, targets = augment(*tiles(*size_hw, side=12), TASKS, settings, PADDING, np.random.default_rng(seed))

        assert image.shape[:2] == (crop_hw or size_hw)
        inside = targets["segmentation"] != 255
        assert (image[~inside] == PADDING).all()
        assert not targets["depth"][~inside].any()
        assert not targets["normals"][~inside].any()
        assert (targets["edge"][~inside] == 255).all()
        # Where a tile is in the middle of its neighbourhood, bilinear and nearest pixels are the same.
        pure = inside & _flat(image)
        assert pure.mean() > 0.15 * inside.mean()
        red, green, blue = (image[pure][:, channel].astype(float) for channel in range(3))
        assert np.array_equal(targets["segmentation"][pure], red / 30)
        assert np.array_equal(targets["edge"][pure], red / 30 == 3)
        factors = green / 12 / targets["depth"][pure]
        assert scale[0] - 1e-4 <= factors.min()
        assert factors.max() <= scale[1] + 1e-4
        assert np.ptp(factors) < 1e-4  # one factor for the whole picture
        x = (blue - 100) / 100
        turned = np.allclose(targets["normals"][pure][:, 0], -x, atol=1e-6)
        assert turned != np.allclose(targets["normals"][pure][:, 0], x, atol=1e-6)
        assert np.linalg.norm(targets["normals"][inside], axis=1) == pytest.approx(1.0, abs=1e-5)
        assert targets["age"] == 30
        mirrored.add(turned)
    assert mirrored == {True, False}


def _flat(image: np.ndarray) -> np.ndarray:
    """Pixels whose 3x3 neighbourhood has one colour."""
    height, width = image.shape[:2]
    flat = np.zeros((height, width), bool)
    around = [image[1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx] for dy, dx in product((-1, 0, 1), repeat=2)]
    flat[1:-1, 1:-1] = np.all([part == around[4] for part in around], axis=(0, 3))
    return flat


def test_a_hue_turns_by_the_same_part_of_the_circle_everywhere_and_greys_stay() -> None:
    colours = np.array([[[200, 40, 40], [40, 200, 90], [90, 90, 90], [30, 60, 200]]], np.uint8)
    shifts = []
    for seed in range(12):
        settings = AugmentConfig(flip=False, hue=0.1)
        turned, _ = augment(colours, {}, (), settings, PADDING, np.random.default_rng(seed))

        before, after = (
            np.array([colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in picture[0].astype(float)])
            for picture in (colours, turned)
        )
        shift = (after[:, 0] - before[:, 0] + 0.5) % 1 - 0.5
        assert np.ptp(shift[[0, 1, 3]]) < 0.01  # 8 bits
        assert after[:, 1:] == pytest.approx(before[:, 1:], abs=0.02)
        assert np.array_equal(turned[0, 2], colours[0, 2])
        shifts.append(shift[0])
    assert min(shifts) < -0.03
    assert max(shifts) > 0.03
    assert max(np.abs(shifts)) <= 0.1 + 0.005


def test_without_a_hue_the_other_colours_are_drawn_as_before() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    settings = AugmentConfig(flip=False, brightness=0.2, contrast=0.2, saturation=0.2)

    found = augment(image, {}, (), settings, PADDING, np.random.default_rng(5))[0]

    draws = np.random.default_rng(5)
    brightness, contrast, saturation = (1 + draws.uniform(-0.2, 0.2) for _ in range(3))
    values = image.astype(float)
    grey = (values @ [0.299, 0.587, 0.114])[..., None]
    values = grey + (values - grey) * saturation
    values = (grey.mean() + (values - grey.mean()) * contrast) * brightness
    assert np.abs(found - values.round().clip(0, 255)).max() <= 1  # float32 against float64 at a rounding


@pytest.mark.parametrize("hue", [-0.1, 0.6])
def test_a_hue_beyond_half_the_circle_is_refused(hue: float) -> None:
    with pytest.raises(ConfigError, match=r"hue by 0 to 0.5 of the colour circle"):
        augment(*tiles(8, 8, 4), TASKS, AugmentConfig(hue=hue), PADDING, np.random.default_rng(0))
