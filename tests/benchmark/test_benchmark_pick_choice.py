"""Which case is chosen, on figures made up so that a person can decide, too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nddr_deploy.benchmark.cases import Case
from nddr_deploy.benchmark.pick_choice import Decision, Judged, decide
from nddr_deploy.evaluate.budget import parse_budgets
from nddr_deploy.evaluate.sample_scores import Change
from nddr_deploy.tasks import Segmentation
from nddr_deploy.tasks.base import MetricForm

TASKS = (Segmentation("segmentation", classes=("floor", "wall")),)
FIRST = (12.0, 12.0, 12.0)  # milliseconds of the first case, in three rounds


def judged(
    name: str, times_ms: Sequence[float], lost: float = 0.0, *, worst: float | None = None, budget: str = "-1"
) -> Judged:
    """A case that takes so long in each round, and loses so many points of mIoU of its 75."""
    after = 0.75 - lost / 100
    low = -(lost if worst is None else worst) / 100
    change = Change("segmentation", "mIoU", MetricForm("share", higher_is_better=True), 0.75, after, low, 0.0)
    return Judged.of(
        Case(name, name, "int8", compiled=False, path=Path("model.onnx")),
        [[time / 1000] for time in times_ms],
        [[time / 1000] for time in FIRST],
        [change],
        parse_budgets([f"segmentation.mIoU={budget}"], TASKS),
        sure=worst is not None,
    )


def chosen(*cases: Judged) -> Decision:
    found = decide(cases)
    assert found is not None
    return found


def test_the_fastest_whose_budget_holds_is_chosen() -> None:
    found = chosen(judged("float", FIRST), judged("fast", (4, 4, 5), 0.5), judged("faster", (2, 2, 2), 0.9))

    assert found.best.case.name == "faster"
    assert found.best.speedup.median == pytest.approx(6.0)
    assert found.why == "6.00 (6.00 to 6.00) times float int8; the fastest of the 3 cases that keep the budgets."


def test_the_fastest_is_passed_over_where_it_loses_too_much() -> None:
    found = chosen(judged("float", FIRST), judged("fast", (4, 4, 4), 0.5), judged("faster", (2, 2, 2), 1.1))

    assert found.best.case.name == "fast"
    assert "the fastest of the 2 cases" in found.why


def test_only_one_that_keeps_the_budgets_is_said_to_be_so() -> None:
    found = chosen(judged("float", FIRST), judged("fast", (4, 4, 4), 3.0))

    assert found.best.case.name == "float"
    assert "the only one of 2 cases that keeps the budgets" in found.why


def test_with_sure_the_worse_end_of_the_interval_must_hold_too() -> None:
    found = chosen(judged("float", FIRST), judged("fast", (4, 4, 4), 0.5, worst=1.2))

    assert found.best.case.name == "float"


def test_of_two_that_are_as_fast_the_one_that_loses_less_is_chosen() -> None:
    close = judged("close", (2.02, 2.0, 2.1), 0.1)  # faster in the second round, 1 % slower in the middle one

    found = chosen(judged("float", FIRST), judged("fastest", (2.0, 2.04, 2.0), 0.9), close)

    assert found.best is close
    assert "as fast as fastest int8 (6.00) within the noise" in found.why
    assert "at most 10% of one, against 90%" in found.why


def test_one_that_is_never_as_fast_is_slower_however_little_it_loses() -> None:
    found = chosen(judged("fastest", (2.0, 2.0, 2.0), 0.9), judged("close", (2.02, 2.02, 2.02), 0.1))

    assert found.best.case.name == "fastest"
    assert found.rivals == ()


def test_one_slow_round_of_the_fastest_makes_a_much_slower_case_no_choice_but_a_rival() -> None:
    slower = judged("slower", (3.0, 3.0, 3.0), 0.1)

    found = chosen(judged("fastest", (2.0, 9.0, 2.0), 0.9), slower)

    assert found.best.case.name == "fastest"
    assert found.rivals == (slower.case,)


def test_a_loss_of_all_that_is_allowed_uses_the_whole_budget() -> None:
    assert judged("all", FIRST, 1.0).used == pytest.approx(1.0)
    assert judged("more", FIRST, -0.4).used == 0.0  # a gain
    assert not judged("all", FIRST, 1.0).missed


def test_nothing_is_chosen_where_no_budget_holds() -> None:
    assert decide([judged("fast", FIRST, 2.0), judged("unknown", FIRST, np.nan)]) is None
