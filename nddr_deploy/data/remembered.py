"""A data set whose samples are read once, as far as memory allows: for whoever goes through it many times."""

from __future__ import annotations

import numpy as np

from nddr_deploy.data.base import Dataset, Sample
from nddr_deploy.tasks.base import Task


class Remembered:
    """The same samples as `dataset`. The first ones asked for stay in memory, the rest is read again each time.

    Args:
        dataset: what is read.
        most_bytes: of pictures and targets that are kept.
    """

    def __init__(self, dataset: Dataset, *, most_bytes: int = 2**30) -> None:
        self._dataset = dataset
        self._left = most_bytes
        self._kept: dict[int, Sample] = {}

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self._dataset.tasks

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self._dataset[index]
        size = sample.image.nbytes + sum(np.asarray(target).nbytes for target in sample.targets.values())
        if size <= self._left:
            self._left -= size
            self._kept[index] = sample
        return sample
