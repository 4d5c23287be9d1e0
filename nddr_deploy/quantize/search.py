"""The fewest layers that must stay in higher precision for every budget to hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from nddr_deploy.errors import ConfigError
from nddr_deploy.evaluate.budget import Budget
from nddr_deploy.evaluate.change import Change
from nddr_deploy.progress import progress_bar
from nddr_deploy.quantize.sensitivity import Sensitivity
from nddr_deploy.quantize.trials import Trials

LAST = 8  # layers that are tried as the only one to be quantised, before budgets count as impossible


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Attributes:
        keep: layers that stay in higher precision, in the graph's order; where no mix meets the budgets, those of the
            one that misses them least.
        changes: of that mix, on the samples of the search.
        met: whether every budget holds there.
        trials: how many mixes were looked at.
    """

    keep: tuple[str, ...]
    changes: tuple[Change, ...]
    met: bool
    trials: int


def search(
    trials: Trials,
    budgets: Sequence[Budget],
    ranking: Sequence[str],
    *,
    start: Collection[str] = (),
    sure: bool = False,
    max_trials: int | None = None,
    progress: bool = False,
) -> Outcome:
    """Keep the first layers of a ranking, as few as meet every budget, and then give back those that are not needed.

    The number is found by doubling and halving; layers are then tried without, in groups that become smaller, the last
    ones of the ranking first. The result is a mix from which no single layer beyond `start` can be taken away; a
    smaller one may exist, for all mixes are not tried. At least one layer is always quantised: a model without any is
    the float model, which needs no search.

    Args:
        trials: what is judged, and remembered.
        budgets: what must hold.
        ranking: all of `trials.layers`, those first whose return to float gives back most; see `rank`.
        start: layers that stay in any case, as another search found them on fewer samples.
        sure: budgets must hold at the worse end of the interval, too (`trials` must measure it).
        max_trials: give up after so many mixes; None goes on to the end.
        progress: show a progress bar on stderr, if that is a terminal.

    Raises:
        ConfigError: no budget, or fewer than one trial.
    """
    if not budgets:
        raise ConfigError("There is no budget to search for. Give at least one, as in segmentation.mIoU=-0.5.")
    if max_trials is not None and max_trials < 1:
        raise ConfigError(f"max_trials: got {max_trials}; expected a whole number from 1.")
    looked = _Looked(trials, budgets, sure, max_trials)
    with suppress(_EnoughTrials):
        with progress_bar("how many layers", 2 * len(ranking).bit_length() + 1, shown=progress) as looked.advance:
            first = [name for name in ranking if name in start]
            rest = [name for name in ranking if name not in start]
            keep = _beginning(looked, first, rest)
        added = [name for name in keep if name not in start]
        with progress_bar("which layers", 2 * len(added), shown=progress and len(added) > 0) as looked.advance:
            _give_back(looked, [name for name in keep if name in start], added)
    return looked.outcome()


def rank(
    sensitivity: Sensitivity, budgets: Sequence[Budget], changes: Sequence[Change], *, sure: bool = False
) -> tuple[str, ...]:
    """Every layer, those first that explain most of what the budgets are missed by.

    A layer's part in a metric's loss counts as a share of the whole loss, weighted by how far that exceeds its budget;
    metrics within their budgets count a little, so that the order never is arbitrary.

    Args:
        changes: with every layer quantised.
        sure: as for `search`.
    """
    gains = sensitivity.gains()
    places = {(column.task, column.metric): place for place, column in enumerate(sensitivity.columns)}
    losses = {(change.task, change.metric): change for change in changes}
    total = np.zeros(len(sensitivity.layers))
    for budget in budgets:
        change = losses[budget.task, budget.metric]
        excess = budget.excess(change, sure=sure)
        if math.isinf(excess):
            continue  # nothing was measured of it
        scale = max(abs(change.loss), 1e-12)
        weight = min(excess / scale, 1.0)
        total += (weight + 0.01) * np.nan_to_num(gains[:, places[budget.task, budget.metric]]) / scale
    return tuple(sensitivity.layers[place] for place in np.argsort(-total, kind="stable"))


class _EnoughTrials(Exception):
    """The limit is reached."""


class _Looked:
    """The mixes that were looked at, and the best of them."""

    def __init__(
        self,
        trials: Trials,
        budgets: Sequence[Budget],
        sure: bool,
        most: int | None,
    ) -> None:
        self._trials = trials
        self._budgets = budgets
        self._sure = sure
        self._most = most
        self.advance: Callable[[int], None] = lambda steps: None
        self._excess: dict[frozenset[str], float] = {}

    def holds(self, keep: Sequence[str]) -> bool:
        """Whether every budget holds with these layers in float."""
        chosen = frozenset(keep)
        if chosen not in self._excess:
            if self._most is not None and len(self._excess) >= self._most:
                raise _EnoughTrials
            self._excess[chosen] = total_excess(self._trials.changes(chosen), self._budgets, sure=self._sure)
            self.advance(1)
        return self._excess[chosen] == 0

    def outcome(self) -> Outcome:
        """The mix of fewest layers that meets the budgets; else the one that misses them least."""
        met = [keep for keep, excess in self._excess.items() if excess == 0]
        if met:
            best = min(met, key=len)
        else:
            best = min(self._excess, key=lambda keep: (self._excess[keep], len(keep)))
        ordered = tuple(name for name in self._trials.layers if name in best)
        return Outcome(ordered, self._trials.changes(best), bool(met), len(self._excess))


def total_excess(changes: Sequence[Change], budgets: Sequence[Budget], *, sure: bool = False) -> float:
    """By how much budgets are missed, each as a share of what it allows, added up; 0 where all hold."""
    found = {(change.task, change.metric): change for change in changes}
    total = 0.0
    for budget in budgets:
        change = found[budget.task, budget.metric]
        excess = budget.excess(change, sure=sure)
        if math.isinf(excess):
            return excess  # nothing was measured, so there is no share of anything
        allowed = budget.limit(change.before) or 0.001 * abs(change.before) or 1.0
        total += excess / allowed
    return total


def _beginning(looked: _Looked, first: Sequence[str], rest: Sequence[str]) -> list[str]:
    """The first layers and as few of the rest, in its order, as meet the budgets, if doubling and halving find them.

    Where not even all layers but the last one do, another one may be the one to quantise. Nothing is returned where
    no mix was found.
    """
    ranking = [*first, *rest]
    if looked.holds(first):
        return list(first)
    least, most = len(first), len(ranking) - 1
    low, added = least, 1
    while least + added < most and not looked.holds(ranking[: least + added]):
        low, added = least + added, 2 * added
    high = min(least + added, most)
    if most <= least or not looked.holds(ranking[:high]):
        return _all_but_one(looked, ranking)
    while high - low > 1:
        middle = (low + high) // 2
        if looked.holds(ranking[:middle]):
            high = middle
        else:
            low = middle
    return ranking[:high]


def _all_but_one(looked: _Looked, ranking: Sequence[str]) -> list[str]:
    """Everything but one of the last layers."""
    for layer in reversed(ranking[-LAST:-1]):
        rest = [name for name in ranking if name != layer]
        if looked.holds(rest):
            return rest
    return []


def _give_back(looked: _Looked, first: Sequence[str], added: list[str]) -> None:
    """Take away groups of the added layers, the last first, as long as the budgets hold without them."""
    group = max(1, len(added) // 2)
    while added:
        before, end = len(added), len(added)
        while end > 0:
            start = max(0, end - group)
            rest = added[:start] + added[end:]
            if looked.holds([*first, *rest]):
                added[:] = rest
            end = start
        if group == 1 and len(added) == before:
            return  # none can be taken away any more
        group = max(1, group // 2)
