from __future__ import annotations

import numpy as np
import pytest

from nddr_deploy.data import open_dataset
from nddr_deploy.data.base import Sample
from nddr_deploy.errors import InputError
from nddr_deploy.evaluate.pixel_baseline import pixel_baseline
from nddr_deploy.tasks import Segmentation

TASK = Segmentation(classes=("left", "bright", "dark"))


class Pixels:
    """Noise in which position and brightness tell the class of each pixel, or nothing does."""

    tasks = (TASK,)

    def __init__(self, seed: int, *, solvable: bool = True, label: int | None = None) -> None:
        self.seed, self.solvable, self.label = seed, solvable, label

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        image = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        labels = np.where(image.mean(axis=2) > 127, 1, 2).astype(np.uint8)
        labels[:, :10] = 0
        if not self.solvable:
            labels = rng.integers(0, 3, (24, 32), dtype=np.uint8)
        if self.label is not None:
            labels[:] = self.label
        return Sample(str(index), image, {TASK.name: labels})


def test_what_colour_and_position_tell_is_learnt() -> None:
    result = pixel_baseline(Pixels(0), Pixels(1), TASK, limit=30, steps=300)

    assert result["mIoU"] > 0.85  # only pixels right at the borders between classes are lost


def test_what_they_do_not_tell_is_not() -> None:
    result = pixel_baseline(Pixels(0, solvable=False), Pixels(1, solvable=False), TASK, limit=30, steps=100)

    assert result["mIoU"] < 0.25  # guessing gives 0.2


def test_the_result_is_the_same_every_time() -> None:
    first, second = (pixel_baseline(Pixels(0), Pixels(1), TASK, limit=5, steps=5) for _ in range(2))

    assert first == second


def test_without_a_labelled_pixel_it_says_so() -> None:
    with pytest.raises(InputError, match="labelled"):
        pixel_baseline(Pixels(0, label=255), Pixels(1), TASK, limit=3)


def test_rooms_are_not_solved_by_colour_and_position() -> None:
    train, test = (
        open_dataset("rooms", split, count=count, size_hw=(48, 64), tasks=["segmentation"])
        for split, count in (("train", 200), ("test", 60))
    )
    task = train.tasks[0]
    assert isinstance(task, Segmentation)

    result = pixel_baseline(train, test, task, limit=200, steps=300)

    assert 0.05 < result["mIoU"] < 0.2  # a network reaches more than 0.5
