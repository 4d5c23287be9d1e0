"""The cut of least divergence: outliers go, what is spread evenly stays, zeros count for nothing."""

from __future__ import annotations

import numpy as np
import pytest

from nddr_deploy.graph.entropy import bins_to_keep
from nddr_deploy.tasks.base import Array

BINS, LEVELS = 1024, 128


def magnitudes(values: Array) -> Array:
    counts: Array = np.histogram(np.abs(values), BINS)[0]
    return counts


def test_what_is_spread_evenly_is_kept() -> None:
    assert bins_to_keep(np.full(BINS, 100), LEVELS) == BINS


def test_a_few_values_far_away_are_cut_off() -> None:
    near = np.random.default_rng(0).normal(0, 1, 200_000)  # all below 5

    kept = bins_to_keep(magnitudes(np.append(near, [40.0])), LEVELS)

    assert 2 < kept / BINS * 40 < 8  # a level is 40 / 128 wide where all are kept


def test_zeros_do_not_count() -> None:
    positive = magnitudes(np.random.default_rng(1).exponential(1, 100_000))
    zeros = positive.copy()
    zeros[0] += 900_000  # as after a ReLU that lets little pass

    assert bins_to_keep(zeros, LEVELS) == bins_to_keep(positive, LEVELS) > BINS / 3


def test_more_levels_keep_more() -> None:
    tail = magnitudes(np.random.default_rng(2).laplace(0, 1, 100_000))

    assert bins_to_keep(tail, 16) < bins_to_keep(tail, 64)


@pytest.mark.parametrize("zeros", [0, 1000])
def test_values_that_are_all_alike_are_kept(zeros: int) -> None:
    counts = np.zeros(BINS, np.int64)
    counts[[0, -1]] += [zeros, 10]  # the largest value is in the last bin

    assert bins_to_keep(counts, LEVELS) == BINS


def test_the_counts_are_left_as_they_were() -> None:
    counts = np.arange(BINS)[::-1].copy()

    bins_to_keep(counts, LEVELS)

    assert np.array_equal(counts, np.arange(BINS)[::-1])
