"""The search for the fewest layers that must stay in float, on made-up losses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from fake_trials import TASKS, FakeTrials

from nddr_deploy.errors import ConfigError
from nddr_deploy.evaluate.budget import Budget, parse_budgets
from nddr_deploy.quantize.search import Outcome, rank, search, total_excess
from nddr_deploy.quantize.sensitivity import measure_sensitivity

NAN = float("nan")


def budgets(*texts: str) -> tuple[Budget, ...]:
    return parse_budgets(texts, TASKS)


def found(trials: Any, promised: Sequence[Budget], **options: Any) -> Outcome:
    """As the recipe does it: rank by the sensitivity, then search."""
    ranking = rank(measure_sensitivity(trials), promised, trials.changes(()))
    trials.asked.clear()
    return search(trials, promised, ranking, **options)


def fewest(trials: FakeTrials, promised: Sequence[Budget], **options: Any) -> int | None:
    """Of all mixes with an integer layer that meet the budgets, looked at one by one."""
    for size in range(len(trials.layers)):
        for keep in combinations(trials.layers, size):
            if total_excess(trials.changes(keep), promised, **options) == 0:
                return size
    return None


def random_trials(seed: int, *, interactions: int = 0, layers: int = 9, width: float | None = None) -> FakeTrials:
    """Losses of very different size, as they are; every fifth layer makes things better."""
    rng = np.random.default_rng(seed)
    losses = np.exp(rng.normal(-1.5, 1.5, (layers, 2)))
    losses[::5] *= -0.2
    together = {}
    for _ in range(interactions):
        pair = rng.choice(layers, 2, replace=False)
        together[tuple(f"layer{place}" for place in sorted(pair))] = tuple(rng.normal(0, 0.5, 2))
    return FakeTrials([(float(points), float(degrees)) for points, degrees in losses], together, width=width)


def test_one_bad_layer_is_found_and_all_others_are_quantised():
    trials = FakeTrials({"a": (0.1, 0.0), "b": (0.1, 0.0), "bad": (4.0, 0.0), "c": (0.1, 0.0), "d": (0.1, 0.0)})

    outcome = found(trials, budgets("segmentation=-0.5"))

    assert outcome.met
    assert outcome.keep == ("bad",)
    assert {(change.task, round(change.loss, 9)) for change in outcome.changes} == {
        ("segmentation", 0.004),
        ("normals", 0.0),
    }
    assert outcome.trials == len(set(trials.asked)) == 2  # nothing kept, and the first of the ranking


def test_nothing_stays_in_float_where_every_budget_holds_at_once():
    trials = FakeTrials([(0.1, 0.1)] * 6)

    outcome = found(trials, budgets("segmentation=-1", "normals=+1"))

    assert outcome.met
    assert (outcome.keep, outcome.trials) == ((), 1)


def test_layers_are_named_in_the_graphs_order_whatever_their_rank():
    trials = FakeTrials({"first": (1.0, 0.0), "second": (0.0, 0.0), "third": (3.0, 0.0), "fourth": (0.0, 0.0)})

    assert found(trials, budgets("segmentation=-0.5")).keep == ("first", "third")


@pytest.mark.parametrize("seed", range(12))
def test_with_one_budget_and_losses_that_add_up_no_mix_is_smaller(seed):
    trials = random_trials(seed)
    promised = budgets("segmentation=-0.5")

    outcome = found(trials, promised)

    assert outcome.met
    assert len(outcome.keep) == fewest(trials, promised)


@pytest.mark.parametrize("seed", range(20))
def test_with_two_budgets_and_interactions_the_mix_is_near_the_smallest(seed):
    trials = random_trials(seed, interactions=6)
    promised = budgets("segmentation=-0.6", "normals=+0.4")
    smallest = fewest(trials, promised)

    outcome = found(trials, promised)

    assert outcome.met == (smallest is not None)
    if smallest is not None:
        assert total_excess(outcome.changes, promised) == 0
        assert len(outcome.keep) <= smallest + 2  # of 9 layers
        for name in outcome.keep:
            rest = set(outcome.keep) - {name}
            assert total_excess(trials.changes(rest), promised) > 0, f"{name} need not stay in float"


def test_layers_that_only_the_ranking_wants_in_float_are_given_back():
    # Quantised together, "a" and "b" cost 3 points more; one of them has to stay, though both rank first.
    trials = FakeTrials({"a": (0.1, 0), "b": (0.1, 0), "c": (0.4, 0), "d": (0.2, 0)}, {("a", "b"): (3.0, 0)})

    outcome = search(trials, budgets("segmentation=-0.8"), ("a", "b", "c", "d"))

    assert outcome.met
    assert outcome.keep == ("a",)


def test_layers_to_start_with_stay_and_only_what_is_added_is_given_back():
    losses = {
        "start": (0.0, 0.0),
        "a": (0.1, 0.0),
        "bad": (2.0, 0.0),
        "b": (0.1, 0.0),
        "worse": (3.0, 0.0),
        "c": (0.0, 0.0),
    }
    trials = FakeTrials(losses)

    outcome = search(trials, budgets("segmentation=-0.5"), ("worse", "a", "bad", "b", "c", "start"), start=["start"])

    assert outcome.met
    assert outcome.keep == ("start", "bad", "worse")
    assert all("start" in keep for keep in trials.asked)


def test_what_holds_from_the_start_takes_one_trial():
    trials = FakeTrials({"a": (1.0, 0.0), "b": (0.0, 0.0), "c": (1.0, 0.0)})

    outcome = search(trials, budgets("segmentation=-0.5"), ("a", "c", "b"), start=("a", "c"))

    assert (outcome.met, outcome.keep, outcome.trials) == (True, ("a", "c"), 1)


@pytest.mark.parametrize("size", [1, 2])
def test_a_start_does_not_lead_to_a_mix_without_integers(size):
    losses = {f"layer{place}": (1.0, 0.0) for place in range(3)}
    trials = FakeTrials(losses)

    outcome = search(trials, budgets("segmentation=-0.5"), tuple(losses), start=tuple(losses)[:size])

    assert not outcome.met
    assert len(outcome.keep) == 2
    assert frozenset(losses) not in trials.asked


def test_where_only_one_layer_can_be_quantised_it_is_found_though_it_is_not_the_last():
    losses = {"a": (1.0, 0.0), "b": (1.0, 0.0), "only": (0.1, 0.0), "c": (0.8, 0.0), "d": (0.7, 0.0)}

    outcome = search(FakeTrials(losses), budgets("segmentation=-0.2"), ("a", "b", "only", "c", "d"))

    assert outcome.met
    assert outcome.keep == ("a", "b", "c", "d")


def test_a_layer_that_another_one_makes_up_for_is_tried_again():
    # "y" alone costs too much, until "x" is in integers again, which makes things better.
    trials = FakeTrials({"x": (-0.3, 0), "y": (0.6, 0), "z": (3.0, 0), "w": (0.0, 0)})

    outcome = search(trials, budgets("segmentation=-0.5"), ("x", "y", "z", "w"))

    assert outcome.keep == ("z",)


def test_layers_to_start_with_stay_and_others_are_added():
    trials = FakeTrials({"a": (1.0, 0), "b": (0.0, 0), "c": (1.0, 0), "d": (0.0, 0)})

    outcome = search(trials, budgets("segmentation=-0.5"), ("c", "d", "a", "b"), start=("b", "a"))

    assert outcome.met
    assert outcome.keep == ("a", "b", "c")
    assert all({"a", "b"} <= keep for keep in trials.asked)


def test_a_hundred_layers_take_tens_of_trials_not_thousands():
    trials = random_trials(1, layers=100)

    outcome = found(trials, budgets("segmentation=-0.5", "normals=+0.5"))

    assert outcome.met
    assert outcome.trials < 200
    assert len(set(trials.asked)) == outcome.trials  # what is looked at twice counts once


@pytest.mark.parametrize("needed", [0, 1, 2, 3, 4, 5, 6, 7])
def test_every_number_of_layers_is_found_up_to_all_but_one(needed):
    trials = FakeTrials([(1.0, 0.0)] * needed + [(0.0, 0.0)] * (8 - needed))

    outcome = found(trials, budgets("segmentation=-0.5"))

    assert outcome.met
    assert outcome.keep == trials.layers[:needed]


def test_one_layer_at_least_is_quantised_or_the_budget_is_missed():
    trials = FakeTrials([(1.0, 0.0)] * 4)

    outcome = found(trials, budgets("segmentation=-0.5"))

    assert not outcome.met
    assert len(outcome.keep) == 3
    assert frozenset(trials.layers) not in trials.asked


def test_where_no_mix_does_the_one_that_misses_least_is_returned():
    # Whatever stays, 2 degrees are lost; of those mixes the one with "points" in float is best.
    trials = FakeTrials({"a": (0.0, 0.0), "points": (3.0, 0.0), "b": (0.0, -1.0)}, {(): (0.0, 3.0)})
    promised = budgets("segmentation=-0.5", "normals=+0.5")

    outcome = found(trials, promised)

    assert not outcome.met
    looked = {keep: total_excess(trials.changes(keep), promised) for keep in set(trials.asked)}
    assert total_excess(outcome.changes, promised) == min(looked.values())
    assert outcome.keep == ("points",)


def test_of_equally_bad_mixes_the_smallest_is_returned():
    trials = FakeTrials([(0.0, 0.0)] * 6, {(): (5.0, 0.0)})

    outcome = found(trials, budgets("segmentation=-0.5"))

    assert not outcome.met
    assert outcome.keep == ()


def test_sure_budgets_hold_at_the_worse_end_of_the_interval_too():
    losses = {"a": (0.3, 0.0), "b": (0.2, 0.0), "c": (0.0, 0.0)}
    promised = budgets("segmentation=-0.5")

    assert found(FakeTrials(losses, width=0.25), promised).keep == ()
    outcome = found(FakeTrials(losses, width=0.25), promised, sure=True)
    assert outcome.met
    assert outcome.keep == ("a",)  # 0.2 and 0.25 is within 0.5, 0.5 and 0.25 is not


def test_without_intervals_nothing_is_sure():
    outcome = found(FakeTrials([(0.0, 0.0)] * 3), budgets("segmentation=-0.5"), sure=True)

    assert not outcome.met


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_the_search_ends_after_so_many_trials_with_the_best_of_them(most):
    trials = random_trials(3, layers=30)
    promised = budgets("segmentation=-0.1", "normals=+0.1")

    outcome = found(trials, promised, max_trials=most)

    assert outcome.trials == len(set(trials.asked)) == most
    best = min(total_excess(trials.changes(keep), promised) for keep in set(trials.asked))
    assert total_excess(outcome.changes, promised) == best


def test_a_search_that_is_cut_short_keeps_a_mix_that_meets_the_budgets():
    trials = FakeTrials([(1.0, 0.0)] * 3 + [(0.0, 0.0)] * 5)
    whole = found(trials, budgets("segmentation=-0.5"))
    assert whole.trials > 4

    outcome = found(trials, budgets("segmentation=-0.5"), max_trials=4)  # 0, 1, 2 and 4 layers

    assert outcome.met
    assert len(outcome.keep) == 4


def test_twice_the_same_search_gives_the_same():
    first, second = (found(random_trials(4, interactions=5, width=0.1), budgets("normals=+0.2")) for _ in range(2))

    assert first == second


def test_a_metric_that_is_no_number_is_never_within_its_budget():
    trials = FakeTrials([(NAN, 0.1), (0.0, 0.0), (0.0, 2.0)])

    outcome = found(trials, budgets("segmentation=-0.5", "normals=+0.5"))

    assert outcome.met
    assert set(outcome.keep) == {"layer0", "layer2"}


@pytest.mark.parametrize("text", ["segmentation=-0.5", "segmentation=-1%", "segmentation=0"])
def test_where_nothing_is_a_number_the_budget_is_missed(text):
    promised = budgets(text)
    trials = FakeTrials([(NAN, 0.0), (NAN, 0.0)], {(): (NAN, 0.0)})

    assert total_excess(trials.changes(()), promised) == float("inf")
    assert not found(trials, promised).met


@pytest.mark.parametrize("promised", [("segmentation=-0.5",), ("segmentation=-0.5", "normals=+0.1")])
def test_without_a_layer_there_is_one_mix(promised):
    outcome = search(FakeTrials([]), budgets(*promised), ())

    assert (outcome.met, outcome.keep, outcome.trials) == (True, (), 1)


def test_one_layer_alone_is_quantised_or_not_at_all():
    assert found(FakeTrials([(0.1, 0.0)]), budgets("segmentation=-0.5")).met
    outcome = found(FakeTrials([(1.0, 0.0)]), budgets("segmentation=-0.5"))
    assert (outcome.met, outcome.keep, outcome.trials) == (False, (), 1)


def test_layers_that_cost_a_missed_budget_rank_before_those_that_cost_a_held_one():
    trials = FakeTrials({"angles": (0.0, 0.9), "points": (1.0, 0.0), "both": (0.4, 0.05), "none": (0.0, 0.0)})
    promised = budgets("segmentation=-0.5", "normals=+1")  # 1.4 points are lost, and 0.95 degrees

    assert rank(measure_sensitivity(trials), promised, trials.changes(())) == ("points", "both", "angles", "none")


def test_excess_is_a_share_of_what_each_budget_allows():
    changes = FakeTrials([(1.5, 0.4)]).changes(())

    assert total_excess(changes, budgets("segmentation=-0.5", "normals=+0.2")) == pytest.approx(2.0 + 1.0)
    assert total_excess(changes, budgets("segmentation=-1%")) == pytest.approx(
        0.007 / 0.008
    )  # 1 % of 0.8 is 0.8 points
    assert total_excess(changes, budgets("segmentation=-2", "normals=+2")) == 0
    assert total_excess(changes, budgets("segmentation=0")) == pytest.approx(0.015 / 0.0008)  # as 0.1 % were allowed


@pytest.mark.parametrize("most", [0, -1])
def test_no_trial_at_all_is_refused(most):
    with pytest.raises(ConfigError, match="max_trials"):
        search(FakeTrials([(1.0, 0.0)]), budgets("segmentation=-0.5"), ("layer0",), max_trials=most)


def test_a_search_without_a_budget_is_refused():
    with pytest.raises(ConfigError, match="no budget"):
        search(FakeTrials([(1.0, 0.0)]), (), ("layer0",))
