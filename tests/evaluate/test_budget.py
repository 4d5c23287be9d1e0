from __future__ import annotations

import math

import pytest

from nddr_deploy.errors import ConfigError
from nddr_deploy.evaluate.budget import Budget, parse_budgets
from nddr_deploy.evaluate.change import Change, change_text
from nddr_deploy.tasks import Age, Depth, Normals, Segmentation
from nddr_deploy.tasks.base import MetricForm

TASKS = (Segmentation(classes=("floor", "wall")), Normals(), Depth(), Age())
SHARE, DEGREES = MetricForm("share", higher_is_better=True), MetricForm("degrees", higher_is_better=False)


def miou(before: float, after: float, low: float = math.nan, high: float = math.nan) -> Change:
    return Change("segmentation", "mIoU", SHARE, before, after, low, high)


def angle(before: float, after: float, low: float = math.nan, high: float = math.nan) -> Change:
    return Change("normals", "mean_angle", DEGREES, before, after, low, high)


def one(text: str) -> Budget:
    (budget,) = parse_budgets([text], TASKS)
    return budget


@pytest.mark.parametrize(
    ("text", "task", "metric", "allowed"),
    [
        ("segmentation.mIoU=-0.5", "segmentation", "mIoU", 0.005),  # percentage points of a share
        ("segmentation=-0.5", "segmentation", "mIoU", 0.005),  # the headline
        ("normals.mean_angle=+0.3", "normals", "mean_angle", 0.3),
        ("normals.within_11.25=-1", "normals", "within_11.25", 0.01),  # dots of the metric's own
        ("depth.delta_1.25=-.5", "depth", "delta_1.25", 0.005),
        ("depth.RMSE=+0.05", "depth", "RMSE", 0.05),
        ("depth.AbsRel=+0.002", "depth", "AbsRel", 0.002),
        (" age.MAE = +1. ", "age", "MAE", 1.0),
        ("age.MedAE=0", "age", "MedAE", 0.0),
        ("segmentation.PAcc=+0", "segmentation", "PAcc", 0.0),
    ],
)
def test_a_budget_is_a_change_to_the_worse_in_the_unit_of_its_metric(
    text: str, task: str, metric: str, allowed: float
) -> None:
    budget = one(text)

    assert (budget.task, budget.metric, budget.text, budget.relative) == (task, metric, text, False)
    assert budget.allowed == pytest.approx(allowed, rel=1e-12)
    assert budget.limit(before=0.7) == budget.allowed


@pytest.mark.parametrize(("text", "before", "limit"), [("segmentation=-1%", 0.6, 0.006), ("normals=+2%", 12.0, 0.24)])
def test_a_percentage_is_of_the_value_before(text: str, before: float, limit: float) -> None:
    budget = one(text)

    assert budget.relative
    assert budget.limit(before) == pytest.approx(limit, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("segmentation.mIoU", "expected TASK.METRIC=CHANGE, as in segmentation.mIoU=-0.5; got 'segmentation.mIoU'"),
        ("segmentation.=-1", "expected TASK.METRIC=CHANGE"),
        ("=-1", "expected TASK.METRIC=CHANGE"),
        ("segmentation.mIoU=-half", "expected TASK.METRIC=CHANGE"),
        ("segmentation.mIoU=--1", "expected TASK.METRIC=CHANGE"),
        ("segmentation.mIoU=nan", "expected TASK.METRIC=CHANGE"),
        ("segmentation.mIoU=-1e3", "expected TASK.METRIC=CHANGE"),
        ("segmentation.mIoU=-1%%", "expected TASK.METRIC=CHANGE"),
        ("segmentatoin.mIoU=-1", "Choose one of: segmentation, normals, depth, age. Did you mean 'segmentation'?"),
        ("segmentation.miou=-1", r"Choose one of: mIoU, PAcc\."),
        ("segmentation.mIoU=+0.5", "higher is better, so what may be lost is written -0.5"),
        ("segmentation.mIoU=0.5", "higher is better, so what may be lost is written -0.5"),
        ("normals.mean_angle=-0.3", r"lower is better, so what may be lost is written \+0.3"),
        ("normals.mean_angle=0.3%", r"lower is better, so what may be lost is written \+0.3%"),
    ],
)
def test_anything_else_is_refused_in_words_that_help(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        one(text)


def test_one_metric_has_one_budget() -> None:
    assert len(parse_budgets(["segmentation.mIoU=-1", "segmentation.PAcc=-1"], TASKS)) == 2
    with pytest.raises(ConfigError, match=r"'segmentation=-1' and 'segmentation.mIoU=-2' are of the same metric"):
        parse_budgets(["segmentation=-1", "segmentation.mIoU=-2"], TASKS)


def test_without_labels_no_part_of_an_error_can_be_allowed_but_of_an_agreement_it_can() -> None:
    with pytest.raises(ConfigError, match="its mean_angle is 0 and a part of it nothing"):
        parse_budgets(["normals=+1%"], TASKS, labelled=False)

    assert parse_budgets(["segmentation=-1%", "normals=+1"], TASKS, labelled=False)[0].limit(before=1.0) == 0.01


def test_a_budget_holds_up_to_its_limit_and_the_excess_is_what_is_beyond() -> None:
    budget = one("segmentation.mIoU=-0.5")

    assert budget.holds(miou(0.605, 0.600))  # 0.005000000000000004 in floats
    assert budget.holds(miou(0.600, 0.640))
    assert not budget.holds(miou(0.605, 0.599))
    assert budget.excess(miou(0.605, 0.599)) == pytest.approx(0.001)
    assert budget.excess(miou(0.605, 0.604)) == 0
    assert one("normals=+0.3").excess(angle(12.0, 12.5)) == pytest.approx(0.2)
    assert one("normals=+0.3").holds(angle(12.0, 9.0))


def test_a_sure_budget_holds_at_the_worse_end_of_the_interval() -> None:
    points, degrees = one("segmentation.mIoU=-0.5"), one("normals=+0.3")

    assert points.holds(miou(0.6, 0.597, low=-0.007, high=0.001))
    assert points.excess(miou(0.6, 0.597, low=-0.007, high=0.001), sure=True) == pytest.approx(0.002)
    assert points.holds(miou(0.6, 0.597, low=-0.004, high=0.009), sure=True)
    assert not degrees.holds(angle(12.0, 12.1, low=-0.1, high=0.4), sure=True)
    assert degrees.holds(angle(12.0, 12.1, low=-0.9, high=0.2), sure=True)


def test_nothing_is_promised_about_what_was_not_measured() -> None:
    budget = one("segmentation.mIoU=-0.5")

    assert budget.excess(miou(0.6, math.nan)) == math.inf
    assert budget.holds(miou(0.6, 0.6))  # without an interval
    assert not budget.holds(miou(0.6, 0.6), sure=True)


@pytest.mark.parametrize(
    ("change", "unit", "text"),
    [
        (-0.0031, "share", "-0.31 points"),
        (0.05, "degrees", "+0.05 degrees"),
        (0.0123, "metres", "+0.012 metres"),
        (-1.5, "years", "-1.50 years"),
        (0.00123, "ratio", "+0.0012"),
        (-0.00001, "share", "+0.00 points"),
        (math.nan, "share", "not measured"),
    ],
)
def test_changes_in_words(change: float, unit: str, text: str) -> None:
    assert change_text(change, MetricForm(unit, higher_is_better=True)) == text  # type: ignore[arg-type]


def test_a_loss_is_positive_whichever_way_is_better() -> None:
    assert miou(0.6, 0.5).loss == pytest.approx(0.1)
    assert angle(10.0, 12.0).loss == 2.0
    assert miou(0.6, 0.5).text() == "-10.00 points"
