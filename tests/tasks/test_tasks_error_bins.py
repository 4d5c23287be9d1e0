from __future__ import annotations

import numpy as np
import pytest

from nddr_deploy.tasks.error_bins import ErrorBins

BINS = ErrorBins(step=0.001, most=180.0)


def test_bins_are_a_step_wide_up_to_a_thousand_steps_and_then_a_thousandth_of_their_start() -> None:
    assert BINS.starts[:1000].tolist() == list(range(1000))
    assert (BINS.widths <= np.maximum(1, BINS.starts / 1000)).all()
    assert BINS.starts[-1] + BINS.widths[-1] == BINS.steps == 180_001
    assert len(BINS.starts) < 7000  # 300 samples of them are 17 MB


def test_counts_of_steps_merge_into_the_counts_of_the_errors() -> None:
    errors = np.random.default_rng(0).gamma(2.0, 20.0, 5000).clip(0, 180)
    steps = np.bincount(np.rint(errors / 0.001).astype(int), minlength=BINS.steps)

    np.testing.assert_array_equal(BINS.merge(steps), BINS.count(errors))
    assert BINS.count(errors).sum() == 5000


@pytest.mark.parametrize("scale", [0.001, 0.3, 3.0, 60.0])
@pytest.mark.parametrize("count", [1, 2, 7, 10_000])
def test_a_median_is_within_a_bin_of_the_exact_one(scale: float, count: int) -> None:
    for seed in range(5):
        errors = np.random.default_rng(seed).gamma(2.0, scale, count).clip(0, 180)

        median = BINS.median(BINS.count(errors))

        assert median == pytest.approx(np.median(errors), rel=0.001, abs=0.001)


def test_an_even_number_of_errors_has_its_median_between_the_two_in_the_middle() -> None:
    assert BINS.median(BINS.count(np.array([0.1, 0.2, 0.4, 9.0]))) == pytest.approx(0.3)


def test_many_errors_inside_of_one_bin_are_told_apart_by_their_number() -> None:
    # From 100 degrees on a bin is 0.1 wide; evenly spread errors are found to far less than that.
    errors = np.linspace(99, 101, 20_001)

    assert BINS.median(BINS.count(errors)) == pytest.approx(100, abs=0.002)


def test_no_errors_have_no_median_and_those_beyond_the_most_count_as_the_most() -> None:
    assert np.isnan(BINS.median(BINS.count(np.array([]))))
    assert BINS.median(BINS.count(np.array([250.0]))) == pytest.approx(180, rel=0.001)
