"""How sure a change is: the paired bootstrap over samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nddr_deploy.errors import ConfigError
from nddr_deploy.tasks.base import Array, Task

ROWS = 128  # resamples at a time: their sums of states are a few megabytes


def paired_intervals(
    task: Task, before: Array, after: Array, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Mapping[str, tuple[float, float]]:
    """For each metric the percentile interval of its change, after - before.

    Samples are drawn with replacement, the same ones for both sides: what makes a sample hard for both then cancels.
    Each metric is taken over all of a resample's pixels, as it is over the data set. Resamples in which a metric is
    NaN on either side, because nothing valid was drawn, are left out.

    Args:
        before, after: states of `task.metric()`, (samples, S), of the same samples in the same order.
        confidence: 0 .. 1, the share of resamples inside of the interval.
        resamples: how many are drawn; 0 computes no interval.
        seed: the same one draws the same samples.

    Returns:
        Metric -> (low, high); both NaN with fewer than two samples, without resamples, or where all of them are NaN.

    Raises:
        ConfigError: a confidence that is no share, or a negative number of resamples.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    if not 0 < confidence < 1 or resamples < 0:
        raise ConfigError(
            f"An interval needs a confidence between 0 and 1 and resamples of 0 or more; got {confidence}, {resamples}."
        )
    count = len(before)
    if count < 2 or resamples == 0:
        return dict.fromkeys(task.metrics, (float("nan"), float("nan")))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    changes = {name: np.empty(resamples) for name in task.metrics}
    for start in range(0, resamples, ROWS):
        weights = drawn[start : start + ROWS].astype(np.float64)
        for row, (then, now) in enumerate(zip(weights @ before, weights @ after, strict=True), start=start):
            results = result_of(task, now), result_of(task, then)
            for name, values in changes.items():
                values[row] = results[0][name] - results[1][name]
    return {name: _percentiles(values, confidence) for name, values in changes.items()}


def result_of(task: Task, state: Array) -> dict[str, float]:
    """A task's metrics from a state, or a sum of them."""
    metric = task.metric()
    metric.add(state)
    return metric.result()


def _percentiles(values: Array, confidence: float) -> tuple[float, float]:
    valid = values[~np.isnan(values)]
    if not valid.size:
        return float("nan"), float("nan")
    low, high = np.percentile(valid, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)
