"""Are the metrics what the card says?"""

from __future__ import annotations

from collections.abc import Mapping

from nddr_deploy.card.figures import allowed_text, change_text, value_text
from nddr_deploy.card.schema import Card, HeadMetric
from nddr_deploy.card.verification import Check
from nddr_deploy.evaluate.sample_scores import EvaluationSet
from nddr_deploy.evaluate.score import Scores

REPEATED = 1e-6  # of the value: sums in another order
ELSEWHERE = 5e-3  # of the value: another runtime rounds otherwise; half of the 1 % that a head may usually lose


def check_metrics(
    card: Card,
    evaluation: EvaluationSet,
    scores: Scores,
    *,
    exact: bool,
) -> tuple[Check, ...]:
    """Every metric of the card against what was found here.

    On other images than the card's, figures are told and not judged.

    Args:
        card: with an evaluation.
        evaluation: what was used here.
        scores: of the model on it.
        exact: whether runtime and machine are those of the card.
    """
    then = card.evaluation
    if then is None:
        return (Check("metrics", "every head", "", "", "skipped", "the card has no metrics"),)
    same = evaluation.fingerprint == then.sha256 and evaluation.labelled == then.labelled
    about = "" if same else "other images or truths than the card's"
    data = Check("metrics", "images", then.source, evaluation.about, "same" if same else "note", about)
    checks = [_check(head, scores.get(head.task, {}), same, exact) for head in card.heads]
    return (data, *checks)


def _check(head: HeadMetric, found: Mapping[str, float], same: bool, exact: bool) -> Check:
    what = f"{head.task} {head.metric}"
    then = value_text(head.after, head.unit)
    now = found.get(head.metric)
    if now is None or head.after is None:
        return Check("metrics", what, then, "–", "skipped", "not measured here" if now is None else "not in the card")
    text = f"{value_text(now, head.unit)} ({change_text(now - head.after, head.unit)})"
    if not same:
        return Check("metrics", what, then, text, "note")
    near = abs(now - head.after) <= (REPEATED if exact else ELSEWHERE) * max(abs(head.after), 1e-3)
    broken = _broken(head, now)
    return Check("metrics", what, then, text, "same" if near and not broken else "changed", broken)


def _broken(head: HeadMetric, now: float) -> str:
    """The budget that held then and does not now, in words."""
    if not head.met or head.allowed is None or head.before is None:
        return ""
    loss = head.before - now if head.higher_is_better else now - head.before
    return f"the budget of {allowed_text(head)} no longer holds" if loss > head.allowed else ""
