"""Variations of a training sample that keep image and targets aligned. numpy and cv2 only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nddr_deploy.errors import ConfigError
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import IGNORE_LABEL, Array, Task
from nddr_deploy.training.config import AugmentConfig

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def augment(
    image: Image,
    targets: Mapping[str, Array],
    tasks: Sequence[Task],
    settings: AugmentConfig,
    padding: tuple[int, int, int],
    random: np.random.Generator,
) -> tuple[Image, dict[str, Array]]:
    """Scale and crop, mirror, and change colours, each as far as `settings` asks.

    Args:
        image: RGB uint8 (H, W, 3).
        targets: task name -> target, as in `data.Sample`.
        tasks: whose targets are kept.
        padding: RGB colour of what a crop shows outside the image.
        random: the only source of chance.

    Raises:
        ConfigError: see `check_ranges`.

    The recipes of public code agree on one factor for image and targets, bilinear images and nearest labels, mean
    colour and label 255 outside the image, and mirroring half of the samples; so do we. They differ in where a small
    image lies in the window (ours: anywhere), and three leave the x of mirrored normals as it was, which is wrong.
    """
    check_ranges(settings)
    varied = {task.name: targets[task.name] for task in tasks}
    if settings.crop_hw is not None or tuple(settings.scale) != (1.0, 1.0):
        image, varied = _window(image, varied, tasks, settings, padding, random)
    if settings.flip and random.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
        varied = {task.name: task.flip(varied[task.name]) for task in tasks}
    return _recolour(image, settings, random), varied


def check_ranges(settings: AugmentConfig) -> None:
    """Raise ConfigError for factors that are not positive, a crop without pixels, or a colour change out of range."""
    low, high = settings.scale
    if not 0 < low <= high:
        raise ConfigError(
            f"augment.scale: expected a range of positive factors, as in [0.8, 1.25]; got {list(settings.scale)}."
        )
    if settings.crop_hw is not None and min(settings.crop_hw) < 1:
        raise ConfigError(f"augment.crop_hw: expected a height and a width from 1; got {list(settings.crop_hw)}.")
    changes = settings.brightness, settings.contrast, settings.saturation
    if not all(0 <= change <= 1 for change in changes) or not 0 <= settings.hue <= 0.5:
        raise ConfigError(
            "augment: brightness, contrast and saturation change by a share from 0 to 1, hue by 0 to 0.5 of the colour "
            f"circle; got {changes} and {settings.hue}."
        )


def _window(
    image: Image,
    targets: Mapping[str, Array],
    tasks: Sequence[Task],
    settings: AugmentConfig,
    padding: tuple[int, int, int],
    random: np.random.Generator,
) -> tuple[Image, dict[str, Array]]:
    """A random window of the enlarged sample, read directly: bilinear for the image, nearest for targets."""
    import cv2

    height, width = image.shape[:2]
    size_hw = settings.crop_hw or (height, width)
    factor = random.uniform(*settings.scale)
    # Where the window starts in the enlarged image; an image smaller than the window lies anywhere inside it.
    top, left = (
        int(np.floor(random.uniform(min(room, 0), max(room, 0) + 1)))
        for room in (round(side * factor) - wanted for side, wanted in zip((height, width), size_hw, strict=True))
    )
    rows, columns = (
        (start + np.arange(extent) + 0.5) / factor - 0.5 for start, extent in zip((top, left), size_hw, strict=True)
    )
    near_rows, near_columns = np.rint(rows).astype(int), np.rint(columns).astype(int)
    inside = np.logical_and.outer(
        (near_rows >= 0) & (near_rows < height), (near_columns >= 0) & (near_columns < width)
    )  # (H, W) of the window
    near_rows, near_columns = near_rows.clip(0, height - 1), near_columns.clip(0, width - 1)

    matrix = np.array([[1 / factor, 0, columns[0]], [0, 1 / factor, rows[0]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    window = cv2.warpAffine(image, matrix, size_hw[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    window[~inside] = padding
    varied: dict[str, Array] = {}
    for task in tasks:
        target = targets[task.name]
        if task.head == "dense":
            target = target[near_rows[:, None], near_columns[None]]
            target[~inside] = IGNORE_LABEL if target.dtype == np.uint8 else 0
        if task.kind == "depth":  # what looks twice as large is half as far away
            target = target / np.float32(factor)
        varied[task.name] = target
    return np.asarray(window, dtype=np.uint8), varied


def _recolour(image: Image, settings: AugmentConfig, random: np.random.Generator) -> Image:
    changes = settings.brightness, settings.contrast, settings.saturation
    if not any((*changes, settings.hue)):
        return image
    brightness, contrast, saturation = (1 + random.uniform(-change, change) for change in changes)
    values: Array = image.astype(np.float32)
    if settings.hue:
        values = _turned(values, random.uniform(-settings.hue, settings.hue))
    grey = (values @ LUMA)[..., None]
    values = grey + (values - grey) * np.float32(saturation)
    mean = grey.mean()
    values = (mean + (values - mean) * np.float32(contrast)) * np.float32(brightness)
    recoloured: Image = values.round().clip(0, 255).astype(np.uint8)
    return recoloured


def _turned(values: Array, share: float) -> Array:
    """RGB (H, W, 3) float32 with every hue moved along the colour circle by a share of it; greys stay."""
    import cv2

    hsv = cv2.cvtColor(values / np.float32(255), cv2.COLOR_RGB2HSV)  # hue in degrees
    hsv[..., 0] = (hsv[..., 0] + np.float32(360 * share)) % 360
    turned: Array = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * np.float32(255)
    return turned
