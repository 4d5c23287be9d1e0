"""Images one by one -> the batches that a model takes, as often as they are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Image


@dataclass(frozen=True)
class MadeUpImages:
    """`probe_images` as a set of images with names, where nobody gave real ones.

    Attributes:
        size_hw: of each.
        count: how many.
    """

    size_hw: tuple[int, int]
    count: int = 6

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"made-up {number}" for number in range(self.count))

    @property
    def about(self) -> str:
        return f"{self.count} made-up image{'' if self.count == 1 else 's'}"

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Image]:
        return iter(probe_images(self.size_hw, self.count))


@dataclass(frozen=True)
class ImageBatches:
    """Batches of the size that a model takes; they can be iterated again where the images can.

    A last batch that is too small is filled up with its last image.

    Attributes:
        images: uint8 (H, W, 3) each, all of one size.
        count: images a batch.
    """

    images: Iterable[Image]
    count: int = 1

    @classmethod
    def of(cls, images: Iterable[Image], manifest: Manifest) -> ImageBatches:
        """For a model: one by one where its batch is open."""
        return cls(images, 1 if "batch" in manifest.dynamic else manifest.batch)

    def __iter__(self) -> Iterator[Image]:
        remaining = iter(self.images)
        while batch := list(islice(remaining, self.count)):
            yield np.stack(batch + [batch[-1]] * (self.count - len(batch)))
