"""What a pick writes: the choice and the times, into the card of one of the model's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nddr_deploy.benchmark.pick_choice import Decision, Judged
from nddr_deploy.benchmark.pick_data import Judge
from nddr_deploy.benchmark.pick_files import Contenders
from nddr_deploy.benchmark.pick_measure import Clock
from nddr_deploy.benchmark.pick_report import loss_text
from nddr_deploy.card.card_file import card_path
from nddr_deploy.card.make import make_card, own_card
from nddr_deploy.card.measured import Choice, Latency, LatencyCase, MachineFacts
from nddr_deploy.card.schema import Card, Evaluation
from nddr_deploy.engines.base import Engine
from nddr_deploy.engines.cuda import describe_gpu
from nddr_deploy.engines.machine import describe_machine
from nddr_deploy.errors import ModelFileError
from nddr_deploy.evaluate.sample_scores import SampleScores, compare
from nddr_deploy.manifest import Manifest


def card_of(contenders: Contenders) -> tuple[Path, Card | None]:
    """The file whose card takes the choice, and that card as it is.

    Raises:
        ModelFileError: the int8 form has a card that is not its own.
    """
    model, int8 = contenders.subject.path, contenders.subject.int8
    if int8 is not None and card_path(int8).is_file():
        return int8, own_card(int8)
    if not card_path(model).is_file():
        return model, None
    try:
        return model, own_card(model)
    except ModelFileError:  # of an earlier export; a new one takes its place
        return model, None


def latency_of(judged: Sequence[Judged], manifest: Manifest, threads: int, clock: Clock) -> Latency:
    """For a card."""
    return Latency(
        machine=MachineFacts.of(describe_machine()),
        threads=threads,
        clock=clock,
        rounds=len(judged[0].passes_s),
        images=(manifest.batch, *manifest.size_hw, 3),
        cases=tuple(map(_latency_case, judged)),
    )


def _latency_case(judged: Judged) -> LatencyCase:
    case, times = judged.case, judged.passes
    medians = [float(np.median(round_)) for round_ in judged.passes_s]
    return LatencyCase.model_validate(
        {
            "label": f"{case.precision.upper().replace('+', ' + ')}, {case.backend}",
            "file": case.path.name,
            "backend": case.backend,
            "precision": case.precision,
            "device": describe_gpu().name if case.gpu else "CPU",
            "passes": times.passes,
            "median_ms": 1000 * times.p50,
            "low_ms": 1000 * min(medians),
            "high_ms": 1000 * max(medians),
            "speedup": judged.speedup.median,
            "speedup_low": judged.speedup.min,
            "speedup_high": judged.speedup.max,
        }
    )


def choice_of(decision: Decision, judge: Judge, threads: int) -> Choice:
    best = decision.best
    named = {(change.task, change.metric): change for change in best.changes}
    losses = ", ".join(
        f"{budget.task}.{budget.metric} {loss_text(named[budget.task, budget.metric])} (budget "
        f"{budget.text.partition('=')[2]})"
        for budget in judge.budgets
    )
    truth = "" if judge.evaluation.labelled else " (no labels: FP32's own results are the truth)"
    return Choice.model_validate(
        {
            "file": best.case.path.name,
            "backend": best.case.backend,
            "precision": best.case.precision,
            "threads": threads,
            "median_ms": 1000 * best.passes.p50,
            "machine": MachineFacts.of(describe_machine()),
            "why": f"{decision.why[0].upper()}{decision.why[1:]} On {judge.evaluation.about}{truth}: {losses}.",
        }
    )


def fp32_card(
    model: Path,
    reference: Engine,
    judge: Judge,
    before: SampleScores,
    choice: Choice,
    latency: Latency,
) -> Card:
    """Of the FP32 model itself, whose metrics are the reference's: they change by nothing."""
    return make_card(
        model,
        reference,
        evaluation=Evaluation.of(judge.evaluation, judge.dataset),
        changes=compare(before, before, judge.evaluation.tasks),
        budgets=judge.budgets,
        sure=judge.sure,
        choice=choice,
        latency=latency,
    )
