"""Intervals are held against what is known: all resamples of few samples, and the normal approximation for many."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.evaluate.bootstrap import paired_intervals
from nddr_deploy.evaluate.sample_scores import Change, SampleScores, compare
from nddr_deploy.tasks import Age, Classification, Segmentation, Task
from nddr_deploy.tasks.base import Array

AGE = Age()
GENDER = Classification("gender", ("female", "male"))
PARTS = Segmentation("parts", ("floor", "wall", "chair"))


def scores_of(task: Task, found: list[Array], truths: list[Array]) -> SampleScores:
    states = []
    for each, truth in zip(found, truths, strict=True):
        metric = task.metric()
        metric.update(np.asarray(each), np.asarray(truth))
        states.append(metric.state())
    return SampleScores((task,), {task.name: np.stack(states)})


def ages(errors: Array) -> SampleScores:
    return scores_of(AGE, [np.float32(40 + error) for error in errors], [np.float32(40)] * len(errors))


def right(hits: Array) -> SampleScores:
    """Classification that is right on some images."""
    return scores_of(GENDER, [np.float32([hit, 1 - hit]) for hit in hits], [np.int64(0)] * len(hits))


def change_of(before: SampleScores, after: SampleScores, metric: str, **options: float) -> Change:
    changes = compare(before, after, before.tasks, **options)  # type: ignore[arg-type]
    return next(change for change in changes if change.metric == metric)


def test_the_interval_of_a_mean_of_errors_is_that_of_the_normal_approximation() -> None:
    rng = np.random.default_rng(0)
    then = rng.gamma(2.0, 3.0, 300)
    now = then + rng.normal(0.4, 1.0, 300)

    change = change_of(ages(then), ages(np.abs(now)), "MAE")

    differences = np.abs(now) - then
    half = 1.96 * differences.std() / 300**0.5
    # 2000 resamples: an end of the interval is itself known to some 3 % of the interval's half width, so 10 % is safe.
    assert change.change == pytest.approx(differences.mean(), abs=1e-4)  # ages are float32
    assert change.low == pytest.approx(differences.mean() - half, abs=0.1 * half)
    assert change.high == pytest.approx(differences.mean() + half, abs=0.1 * half)


def test_the_interval_of_three_images_is_that_of_all_27_resamples() -> None:
    rng = np.random.default_rng(1)
    truths = [rng.integers(0, 3, (5, 7), dtype=np.uint8) for _ in range(3)]

    def found(*shares: float) -> list[Array]:
        pairs = zip(shares, truths, strict=True)
        return [np.where(rng.random((5, 7)) < share, truth, (truth + 1) % 3).astype(np.uint8) for share, truth in pairs]

    then, now = found(0.9, 0.8, 0.6), found(0.85, 0.8, 0.3)

    def miou(found: list[Array], places: tuple[int, ...]) -> float:
        metric = PARTS.metric()
        for place in places:
            metric.update(found[place], truths[place])
        return metric.result()["mIoU"]

    every = [miou(now, places) - miou(then, places) for places in product(range(3), repeat=3)]
    expected = np.percentile(np.repeat(every, 1000), [10, 90])

    change = change_of(scores_of(PARTS, then, truths), scores_of(PARTS, now, truths), "mIoU", confidence=0.8)

    # Both ends lie inside of one of the ten values that 27 resamples can give, so no drawing moves them.
    np.testing.assert_allclose([change.low, change.high], expected, rtol=1e-12)


def test_an_interval_of_95_percent_covers_the_truth_about_that_often() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(120):
        then = rng.random(60) < 0.8
        now = np.where(rng.random(60) < 0.15, rng.random(60) < 0.5, then)  # a seventh is guessed anew: -4.5 points
        change = change_of(right(then), right(now), "accuracy", resamples=300)
        covered += change.low <= -0.045 <= change.high

    # 95 % of 120 is 114, +- 2.4; with 60 samples and jumps of a sixtieth percentile intervals are a little off.
    assert 105 <= covered <= 120


def test_a_planted_loss_is_found_and_none_is_found_where_nothing_changed_on_the_whole() -> None:
    rng = np.random.default_rng(3)
    truths = [rng.integers(0, 3, (12, 16), dtype=np.uint8) for _ in range(100)]

    def found(share: float) -> list[Array]:
        return [np.where(rng.random((12, 16)) < share, rng.integers(0, 3, (12, 16)), truth) for truth in truths]

    before, other, worse = (scores_of(PARTS, [*map(np.uint8, found(share))], truths) for share in (0.3, 0.3, 0.33))

    same, lost = change_of(before, other, "mIoU"), change_of(before, worse, "mIoU")

    assert same.low < 0 < same.high
    assert lost.high < 0
    assert -0.05 < lost.change < -0.02


def test_pairing_makes_the_interval_narrow_where_images_are_hard_for_both() -> None:
    rng = np.random.default_rng(4)
    then = rng.gamma(2.0, 5.0, 150)
    now = then + 0.3 + rng.normal(0, 0.2, 150).clip(-0.2, 0.2)
    before, after = ages(then), ages(np.abs(now))
    shuffled = SampleScores((AGE,), {"age": after.states["age"][rng.permutation(150)]})

    paired, unpaired = change_of(before, after, "MAE"), change_of(before, shuffled, "MAE")

    assert paired.change == pytest.approx(unpaired.change)
    assert paired.low > 0 > unpaired.low
    assert (paired.high - paired.low) * 10 < unpaired.high - unpaired.low


def test_the_same_seed_gives_the_same_interval_and_another_one_another() -> None:
    rng = np.random.default_rng(5)
    before, after = ages(rng.gamma(2.0, 3.0, 20)), ages(rng.gamma(2.0, 3.0, 20))

    first, again, other = (change_of(before, after, "MAE", resamples=200, seed=seed) for seed in (7, 7, 8))

    assert (first.low, first.high) == (again.low, again.high)
    assert first.low != other.low
    assert change_of(before, after, "MAE", resamples=200, confidence=0.5).low > first.low


def test_identical_scores_have_an_interval_of_nothing() -> None:
    scores = ages(np.arange(9.0))

    for change in compare(scores, scores, [AGE]):
        assert (change.change, change.low, change.high) == (0, 0, 0)


def test_resamples_with_nothing_valid_are_left_out() -> None:
    labelled, unlabelled = np.uint8([[0, 1]]), np.uint8([[255, 255]])
    truths = [labelled, unlabelled, unlabelled]
    then, now = ([np.uint8([[0, 1]])] * 3, [np.uint8([[0, 0]])] * 3)

    change = change_of(scores_of(PARTS, then, truths), scores_of(PARTS, now, truths), "PAcc")

    # 8 of 27 resamples hold no labelled pixel; all others say the same.
    assert (change.change, change.low, change.high) == (-0.5, -0.5, -0.5)


def test_where_nothing_is_known_the_interval_is_nan() -> None:
    one, nothing = ages(np.array([3.0])), scores_of(PARTS, [np.uint8([[0]])] * 4, [np.uint8([[255]])] * 4)

    for change in (*compare(one, one, [AGE]), *compare(nothing, nothing, [PARTS])):
        assert np.isnan([change.low, change.high]).all()
    assert compare(one, one, [AGE])[0].change == 0
    without = compare(ages(np.arange(5.0)), ages(np.arange(5.0) + 1), [AGE], resamples=0)
    assert without[0].change == pytest.approx(1)
    assert np.isnan(without[0].low)


def test_more_resamples_than_are_summed_at_a_time_are_all_used() -> None:
    rng = np.random.default_rng(6)
    before, after = (ages(rng.gamma(2.0, 3.0, 10)).states["age"] for _ in range(2))

    low, high = paired_intervals(AGE, before, after, resamples=301)["MAE"]

    drawn = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), size=301)
    changes = drawn @ (after[:, 1] - before[:, 1]) / 10
    np.testing.assert_allclose([low, high], np.percentile(changes, [2.5, 97.5]), rtol=1e-9)


def test_what_cannot_be_compared_is_refused() -> None:
    five, six = ages(np.arange(5.0)), ages(np.arange(6.0))

    with pytest.raises(InputError, match="5 before and 6 after"):
        compare(five, six, [AGE])
    with pytest.raises(InputError, match=r"parts was not scored; these tasks were: age"):
        compare(five, five, [PARTS])
    for options in ({"confidence": 95.0}, {"confidence": 0.0}, {"resamples": -1}):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            compare(five, five, [AGE], **options)  # type: ignore[arg-type]
