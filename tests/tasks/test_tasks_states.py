"""States of metrics: what is seen in parts adds up to what is seen at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nddr_deploy.errors import InputError
from nddr_deploy.tasks import Age, Binary, Classification, Depth, Metric, Normals, Segmentation, Task
from nddr_deploy.tasks.normals import NormalsMetric
from nddr_deploy.tasks.segmentation import SegmentationMetric

TASKS: list[Task] = [
    Segmentation(classes=("floor", "wall", "chair", "never")),
    Normals(),
    Depth(),
    Binary(),
    Age(),
    Classification("gender", ("female", "male", "not said")),
]
# Counts are exact; sums of float errors are rounded in another order. Medians come from bins of 0.1 %.
ROUNDING = {"rel": 1e-12}
MEDIANS = {"median_angle": {"rel": 0.001}, "MedAE": {"rel": 0.001, "abs": 0.01}}


def sample(task: Task, rng: np.random.Generator, size_hw: tuple[int, int] = (13, 17)) -> tuple[Any, Any]:
    """A result as a trained network has it, right more often than not, and its target; some of it not labelled."""
    missing = rng.random(size_hw) < 0.2
    if isinstance(task, Segmentation):
        truth = rng.integers(0, 3, size_hw, dtype=np.uint8)
        found = np.where(rng.random(size_hw) < 0.7, truth, rng.integers(0, 3, size_hw)).astype(np.uint8)
        return found, np.where(missing, np.uint8(255), truth)
    if isinstance(task, Normals):
        truth = rng.normal(size=(*size_hw, 3)).astype(np.float32)
        found = truth + rng.normal(scale=0.4, size=truth.shape).astype(np.float32)
        return found, truth * ~missing[..., None]
    if isinstance(task, Depth):
        truth = rng.uniform(0.5, 6, size_hw).astype(np.float32)
        return (truth * rng.lognormal(sigma=0.15, size=size_hw)).astype(np.float32), truth * ~missing
    if isinstance(task, Binary):
        truth = rng.integers(0, 2, size_hw, dtype=np.uint8)
        found = (0.6 * rng.random(size_hw) + 0.4 * truth).astype(np.float32)
        return found, np.where(missing, np.uint8(255), truth)
    if isinstance(task, Age):
        age = rng.uniform(1, 90)
        return np.float32(age + rng.normal(scale=7)), np.float32(age)
    return rng.dirichlet([1, 1, 1]).astype(np.float32), np.int64(rng.integers(0, 3))


def seen(metric: Metric, samples: list[tuple[Any, Any]]) -> Metric:
    for found, truth in samples:
        metric.update(found, truth)
    return metric


def check_equal(result: dict[str, float], expected: dict[str, float]) -> None:
    assert list(result) == list(expected)
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, **MEDIANS.get(name, ROUNDING)), name


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_states_of_two_halves_add_up_to_the_whole(task: Task) -> None:
    rng = np.random.default_rng(3)
    samples = [sample(task, rng) for _ in range(9)]
    halves = [seen(task.metric(), part).state() for part in (samples[:4], samples[4:])]
    whole = seen(task.metric(), samples)

    summed = task.metric()
    summed.add(halves[0] + halves[1])

    assert halves[0].dtype == np.float64
    np.testing.assert_allclose(halves[0] + halves[1], whole.state(), rtol=1e-12)
    check_equal(summed.result(), whole.result())


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_state_counts_as_often_as_it_is_added_beside_what_was_seen_itself(task: Task) -> None:
    rng = np.random.default_rng(4)
    once, twice, own = ([sample(task, rng) for _ in range(3)] for _ in range(3))
    metric = seen(task.metric(), own[:2])
    state = seen(task.metric(), twice).state()
    kept = state.copy()

    metric.add(seen(task.metric(), once).state())
    metric.add(2 * state)
    seen(metric, own[2:])

    expected = seen(task.metric(), own + once + twice + twice)
    check_equal(metric.result(), expected.result())
    np.testing.assert_allclose(metric.state(), expected.state(), rtol=1e-12)
    np.testing.assert_array_equal(state, kept)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_state_of_nothing_is_zeros_and_changes_nothing(task: Task) -> None:
    nothing = task.metric()

    nothing.add(task.metric().state())

    assert not task.metric().state().any()
    assert all(np.isnan(value) for value in nothing.result().values())


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_forms_are_of_just_the_metrics_there_are(task: Task) -> None:
    assert list(task.metrics) == list(task.metric().result())
    assert task.metrics[task.headline].higher_is_better == task.higher_is_better


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_better_result_moves_every_metric_the_way_that_its_form_says(task: Task) -> None:
    rng = np.random.default_rng(5)
    samples = [sample(task, rng) for _ in range(20)]

    worse = seen(task.metric(), samples).result()
    best = seen(task.metric(), [(_perfect(task, truth), truth) for _, truth in samples]).result()

    for name, form in task.metrics.items():
        assert (best[name] > worse[name]) == form.higher_is_better, name
        assert form.unit != "share" or best[name] == 1, name
        assert form.higher_is_better or best[name] == 0, name


def _perfect(task: Task, truth: Any) -> Any:
    if isinstance(task, Classification):
        return np.eye(3, dtype=np.float32)[truth]
    if isinstance(task, Segmentation):
        return np.where(truth == 255, np.uint8(0), truth)
    return truth.astype(np.float32)


@pytest.mark.parametrize(
    "make",
    [
        *(lambda absent=absent: SegmentationMetric(("a", "b", "c", "d"), absent=absent) for absent in ("zero", "nan")),
        *(lambda strict=strict: NormalsMetric(thresholds=(5, 60), inclusive=strict) for strict in (True, False)),
    ],
    ids=["absent-zero", "absent-nan", "within", "strictly-within"],
)
def test_options_hold_for_sums_of_states(make: Any) -> None:
    task = TASKS[0] if isinstance(make(), SegmentationMetric) else TASKS[1]
    rng = np.random.default_rng(6)
    samples = [sample(task, rng) for _ in range(4)]
    summed = make()

    for each in samples:
        summed.add(seen(make(), [each]).state())

    whole = seen(make(), samples).result()
    for name, value in whole.items():
        assert summed.result()[name] == pytest.approx(value, nan_ok=True, **MEDIANS.get(name, ROUNDING))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_state_of_another_form_is_refused(task: Task) -> None:
    with pytest.raises(InputError, match=r"state of \d+ numbers was expected; got shape \(3, 7\)"):
        task.metric().add(np.zeros((3, 7)))


def test_mostly_perfect_normals_have_a_median_of_0_from_their_states_too() -> None:
    truth = np.broadcast_to(np.float32([0, 0, -1]), (9, 9, 3))
    found = truth.copy()
    found[:3] = 0, 0.6, -0.8
    summed = Normals().metric()

    summed.add(seen(Normals().metric(), [(found, truth)]).state())

    assert summed.result()["median_angle"] == 0
