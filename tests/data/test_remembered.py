"""Samples that are read once and kept, as far as memory allows."""

from __future__ import annotations

import numpy as np

from nddr_deploy.data.base import Sample
from nddr_deploy.data.remembered import Remembered
from nddr_deploy.tasks import Age


class Counted:
    """Ten samples of 1,000 bytes of picture and 4 of target that count how often they are read."""

    tasks = (Age("age"),)

    def __init__(self) -> None:
        self.reads: list[int] = []

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Sample:
        self.reads.append(index)
        return Sample(f"{index}", np.full((10, 100), index, np.uint8), {"age": np.float32(index)})


def test_a_remembered_sample_is_read_once() -> None:
    source = Counted()
    remembered = Remembered(source)

    names = [remembered[index].name for index in (0, 3, 0, 3)]

    assert names == ["0", "3", "0", "3"]
    assert source.reads == [0, 3]
    assert (len(remembered), remembered.tasks) == (10, source.tasks)


def test_what_does_not_fit_is_read_again_and_is_right() -> None:
    source = Counted()
    remembered = Remembered(source, most_bytes=2 * 1004)

    for _ in range(2):
        assert [int(remembered[index].image[0, 0]) for index in range(4)] == [0, 1, 2, 3]

    assert source.reads == [0, 1, 2, 3, 2, 3]
