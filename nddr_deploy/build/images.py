"""Pictures to judge number ranges and parity on: the user's own, or made-up ones."""

from __future__ import annotations

from itertools import islice

import numpy as np

from nddr_deploy.errors import ConfigError, UnreadableError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.inference.sources import find_inputs, open_source
from nddr_deploy.preprocess import Fit, Image, Preprocess

MADE_UP = 6
FROM_USER = 16
VIDEO_STEP = 25  # neighbouring frames of a video say nothing new


def build_images(spec: str | None, size_hw: tuple[int, int], preprocess: Preprocess) -> Image:
    """uint8 (count, H, W, 3), at most `FROM_USER` of the user's, laid into the model's image as inference does it.

    Args:
        spec: a folder, a pattern, a list of pictures, or a video (every 25th frame); None makes some up.
        size_hw: the model's image size.
        preprocess: its mean colour pads.

    Raises:
        InputError: as `open_source`; not one of them can be read.
        ConfigError: a live source, which never gives the same pictures twice.
    """
    if spec is None:
        return probe_images(size_hw, MADE_UP)
    if find_inputs(spec).address is not None:
        raise ConfigError(f"images: {spec} is live. Give a folder of pictures, or a video.")
    source = open_source(spec)
    try:
        step = VIDEO_STEP if source.info.kind == "video" else 1
        frames = islice(source, 0, FROM_USER * step, step)
        images = [
            Fit.of((frame.image.shape[0], frame.image.shape[1]), size_hw).apply(frame.image, preprocess.mean_pixel)
            for frame in frames
        ]
    finally:
        source.close()
    if not images:
        raise UnreadableError(f"images: none of {spec} can be read. Give a folder of pictures, or a video.")
    return np.stack(images)


def in_batches(images: Image, count: int) -> list[Image]:
    """Batches of `count`; the last is filled up with the first pictures again."""
    padded = np.resize(images, (-(-len(images) // count) * count, *images.shape[1:]))
    return [padded[start : start + count] for start in range(0, len(padded), count)]


def resized(images: Image, size_hw: tuple[int, int]) -> Image:
    """The pictures stretched to another size of the model's image."""
    if images.shape[1:3] == size_hw:
        return images
    fit = Fit.of((images.shape[1], images.shape[2]), size_hw, "stretch")
    return np.stack([fit.apply(image) for image in images])
