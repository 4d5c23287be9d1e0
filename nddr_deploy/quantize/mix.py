"""Which layers stay in higher precision: none, where plain quantisation meets the budgets; else the fewest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nddr_deploy.evaluate.budget import Budget
from nddr_deploy.evaluate.change import Change
from nddr_deploy.quantize.search import Outcome, rank, search, total_excess
from nddr_deploy.quantize.sensitivity import Sensitivity, measure_sensitivity
from nddr_deploy.quantize.trials import Trials


@dataclass(frozen=True)
class Mix:
    """What stays in higher precision.

    Attributes:
        keep: names of layers, in the graph's order.
        met: whether every budget holds on all samples.
        trials: how many mixes were judged for that.
        sensitivity: None where it was not measured.
        outcome: of the search; None where there was none.
        about: how it was decided, in a sentence.
    """

    keep: tuple[str, ...]
    met: bool
    trials: int
    sensitivity: Sensitivity | None
    outcome: Outcome | None
    about: str


def find_mix(
    some: Trials,
    whole: Trials,
    budgets: Sequence[Budget],
    *,
    sure: bool = False,
    max_trials: int | None = None,
    matrix: bool = False,
    progress: bool = False,
) -> Mix:
    """Search on some samples, and where the result does not hold on all of them, go on from it there.

    Args:
        some, whole: trials of the same graph, on the samples of the search and on all.
        budgets: none need no search.
        sure, max_trials: as for `search`.
        matrix: measure the sensitivity, whether it is needed or not.
        progress: show progress bars on stderr, if that is a terminal.
    """
    sensitivity = measure_sensitivity(some, progress=progress) if matrix else None
    if not budgets:
        return Mix((), True, 0, sensitivity, None, "no budget was given; every layer that can be is quantised")
    if _hold(whole.changes(()), budgets, sure):
        about = "every budget holds with every layer quantised that can be"
        return Mix((), True, 1, sensitivity, None, about)
    if sensitivity is None:
        sensitivity = measure_sensitivity(some, progress=progress)
    ranking = rank(sensitivity, budgets, some.changes(()), sure=sure)
    outcome = search(some, budgets, ranking, sure=sure, max_trials=max_trials, progress=progress)
    looked = outcome.trials
    if not (outcome.met and _hold(whole.changes(outcome.keep), budgets, sure)) and whole is not some:
        left = None if max_trials is None else max(1, max_trials - looked)
        start = outcome.keep if outcome.met else ()
        outcome = search(whole, budgets, ranking, start=start, sure=sure, max_trials=left, progress=progress)
        looked += outcome.trials
    size = len(some.layers)
    if outcome.met:
        about = f"{len(outcome.keep)} of {size} layers stay in higher precision, after {looked} mixes were judged"
    else:
        about = (
            f"no mix meets the budgets; of {looked} judged, the one that misses them least keeps {len(outcome.keep)} "
            f"of {size} layers in higher precision"
        )
    return Mix(outcome.keep, outcome.met, looked, sensitivity, outcome, about)


def _hold(changes: Sequence[Change], budgets: Sequence[Budget], sure: bool) -> bool:
    return total_excess(changes, budgets, sure=sure) == 0
