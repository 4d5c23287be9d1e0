"""What stays in float, decided on some samples and confirmed on all."""

from __future__ import annotations

import pytest
from fake_trials import TASKS, FakeTrials

from nddr_deploy.evaluate.budget import Budget, parse_budgets
from nddr_deploy.quantize.mix import find_mix

QUIET = {"a": (0.1, 0.0), "b": (0.0, 0.0), "c": (0.1, 0.0), "d": (0.0, 0.0)}
LOUD = {"a": (2.0, 0.0), "b": (0.0, 0.0), "c": (0.4, 0.0), "d": (0.0, 0.0)}
LOUDER = {"a": (2.0, 0.0), "b": (0.0, 0.0), "c": (0.8, 0.0), "d": (0.0, 0.0)}


def budgets(text: str = "segmentation=-0.5") -> tuple[Budget, ...]:
    return parse_budgets([text], TASKS)


def test_without_a_budget_nothing_is_judged():
    some, whole = FakeTrials(LOUD), FakeTrials(LOUD)

    mix = find_mix(some, whole, ())

    assert (mix.keep, mix.met, mix.trials, mix.sensitivity) == ((), True, 0, None)
    assert not some.asked
    assert not whole.asked
    assert "no budget" in mix.about


def test_what_holds_at_once_on_all_samples_needs_no_search():
    some, whole = FakeTrials(LOUD), FakeTrials(QUIET)

    mix = find_mix(some, whole, budgets())

    assert (mix.keep, mix.met, mix.trials, mix.outcome) == ((), True, 1, None)
    assert not some.asked
    assert "every layer quantised" in mix.about


def test_the_search_runs_on_some_samples_and_all_of_them_confirm_it():
    some, whole = FakeTrials(LOUD), FakeTrials(LOUD, samples=300)

    mix = find_mix(some, whole, budgets())

    assert mix.met
    assert mix.keep == ("a",)
    assert set(whole.asked) == {frozenset(), frozenset({"a"})}  # not the sensitivity
    assert mix.sensitivity is not None
    assert mix.sensitivity.samples == 64
    assert mix.outcome is not None
    assert "1 of 4 layers" in mix.about


def test_where_all_samples_say_no_the_search_goes_on_there():
    some, whole = FakeTrials(LOUD), FakeTrials(LOUDER, samples=300)

    mix = find_mix(some, whole, budgets())

    assert mix.met
    assert mix.keep == ("a", "c")
    assert all("a" in keep for keep in whole.asked[1:])  # with what some of them found


def test_where_some_samples_find_no_mix_all_of_them_may():
    some = FakeTrials(LOUD, {(): (1.0, 0.0)})
    whole = FakeTrials(LOUD, samples=300)

    mix = find_mix(some, whole, budgets())

    assert mix.met
    assert mix.keep == ("a",)


def test_where_no_mix_does_the_text_says_so():
    hopeless = {(): (1.0, 0.0)}

    mix = find_mix(FakeTrials(LOUD, hopeless), FakeTrials(LOUD, hopeless, samples=300), budgets())

    assert not mix.met
    assert "no mix meets the budgets" in mix.about
    assert f"{len(mix.keep)} of 4 layers" in mix.about


def test_samples_that_are_all_of_them_are_not_searched_twice():
    trials = FakeTrials(LOUD, {(): (1.0, 0.0)})

    mix = find_mix(trials, trials, budgets())

    assert not mix.met
    assert mix.outcome is not None
    assert mix.trials == mix.outcome.trials


def test_the_sensitivity_is_measured_where_it_is_asked_for_though_nothing_is_missed():
    mix = find_mix(FakeTrials(QUIET), FakeTrials(QUIET), budgets(), matrix=True)

    assert mix.sensitivity is not None
    assert mix.sensitivity.layers == tuple(QUIET)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_limit_of_trials_is_that_of_both_searches(most):
    hopeless = {(): (1.0, 0.0)}
    some, whole = FakeTrials([(1.0, 0.0)] * 20, hopeless), FakeTrials([(1.0, 0.0)] * 20, hopeless, samples=300)

    mix = find_mix(some, whole, budgets(), max_trials=most)

    assert not mix.met
    assert mix.trials <= most + 1  # all samples are asked once at least


def test_sure_budgets_are_sure_on_all_samples():
    some = FakeTrials(LOUD, width=0.05)
    whole = FakeTrials(LOUD, width=0.2, samples=300)

    assert find_mix(some, whole, budgets()).keep == ("a",)
    assert find_mix(some, whole, budgets(), sure=True).keep == ("a", "c")  # 0.4 and 0.2 is beyond 0.5
