"""What every data set gives: an image and one target per task. numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array, Task


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        name: unique in its data set.
        image: RGB uint8 (H, W, 3).
        targets: task name -> segmentation (H, W) uint8, 255 = ignore; normals (H, W, 3) float32 unit vectors toward the
            camera (x right, y down, z forward), zeros = missing; depth (H, W) float32 metres, 0 = missing;
            age () float32 years; classification () int64 class.
    """

    name: str
    image: Image
    targets: Mapping[str, Array]


class Dataset(Protocol):
    """A finite, random-access, deterministic set of samples: `dataset[i]` is the same sample in every process."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that every sample has a target for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...
