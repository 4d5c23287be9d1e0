"""Which of the measured cases to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nddr_deploy.benchmark.cases import Case
from nddr_deploy.benchmark.timing import Percentiles, Spread, ratios
from nddr_deploy.evaluate.budget import Budget
from nddr_deploy.evaluate.sample_scores import Change

NEAR = 0.95  # of the fastest one's speed: what is slower is not as fast, however noisy the machine


@dataclass(frozen=True)
class Judged:
    """One case: how fast, and what it loses.

    Attributes:
        passes_s: of each round, seconds of every pass.
        speedup: over the first case, within each round.
        changes: every metric of every head, from FP32 to this case.
        missed: the budgets that do not hold.
        used: the largest share of a budget that the losses use up; 0 where nothing is lost.
        reference: whether it is what the changes are measured from.
    """

    case: Case
    passes_s: tuple[tuple[float, ...], ...]
    speedup: Spread
    changes: tuple[Change, ...]
    missed: tuple[Budget, ...]
    used: float
    reference: bool = False

    @classmethod
    def of(
        cls,
        case: Case,
        passes_s: Sequence[Sequence[float]],
        first_s: Sequence[Sequence[float]],
        changes: Sequence[Change],
        budgets: Sequence[Budget],
        *,
        sure: bool = False,
        reference: bool = False,
    ) -> Judged:
        """From measurements.

        Args:
            passes_s, first_s: of this case and of the first, per round.
            changes, reference: as the attributes.
            budgets, sure: what must hold, see `Budget.holds`.
        """
        named = {(change.task, change.metric): change for change in changes}
        shares = [_used(budget, named[budget.task, budget.metric], sure) for budget in budgets]
        missed = [budget for budget in budgets if not budget.holds(named[budget.task, budget.metric], sure=sure)]
        return cls(
            case,
            tuple(tuple(round_) for round_ in passes_s),
            ratios(first_s, passes_s),
            tuple(changes),
            tuple(missed),
            max(shares, default=0.0),
            reference,
        )

    @property
    def passes(self) -> Percentiles:
        """Of all rounds together."""
        return Percentiles.of([time for round_ in self.passes_s for time in round_])


@dataclass(frozen=True)
class Decision:
    """The case to take, and why.

    Attributes:
        why: a sentence.
        rivals: other cases that keep the budgets and took no longer in at least one round.
    """

    best: Judged
    why: str
    rivals: tuple[Case, ...] = ()


def decide(judged: Sequence[Judged]) -> Decision | None:
    """The fastest case whose budgets all hold; None where there is none.

    A case that took no longer than the fastest in at least one round, and is at most 5 % slower over all, is as fast
    within the noise. Of such cases the one that uses the smallest share of its budgets is taken.
    """
    holding = [each for each in judged if not each.missed]
    if not holding:
        return None
    fastest = max(holding, key=lambda each: each.speedup.median)
    near = [each for each in holding if each is fastest or _as_fast(each, fastest)]
    best = min(near, key=lambda each: (each.used, -each.speedup.median))
    among = f"the fastest of the {len(holding)} cases that keep the budgets"
    if len(holding) == 1 < len(judged):
        among = f"the only one of {len(judged)} cases that keeps the budgets"
    elif best is not fastest:
        among = (
            f"as fast as {fastest.case.label} ({fastest.speedup.median:.2f}) within the noise, and it uses less of the "
            f"budgets (at most {best.used:.0%} of one, against {fastest.used:.0%})"
        )
    first = judged[0]
    speed = f"{best.speedup.median:.2f} ({best.speedup.min:.2f} to {best.speedup.max:.2f}) times {first.case.label}"
    why = f"{among}." if best is first else f"{speed}; {among}."
    rivals = [each.case for each in holding if each is not best and ratios(best.passes_s, each.passes_s).max >= 1]
    return Decision(best, why, tuple(rivals))


def _as_fast(each: Judged, fastest: Judged) -> bool:
    found = ratios(fastest.passes_s, each.passes_s)
    return found.max >= 1 and found.median >= NEAR


def _used(budget: Budget, change: Change, sure: bool) -> float:
    """The loss as a share of what is allowed."""
    loss = max(change.loss, change.surest_loss) if sure else change.loss
    limit = budget.limit(change.before)
    if loss <= 0:
        return 0.0
    return loss / limit if limit > 0 else float("inf")
