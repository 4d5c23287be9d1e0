"""The fastest form of a model on this machine that still keeps every task's budget."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from nddr_deploy.benchmark.cases import installed_versions
from nddr_deploy.benchmark.pick_card import card_of, choice_of, fp32_card, latency_of
from nddr_deploy.benchmark.pick_choice import decide
from nddr_deploy.benchmark.pick_data import Judge, open_judge
from nddr_deploy.benchmark.pick_files import find_contenders
from nddr_deploy.benchmark.pick_measure import REFERENCE, measure
from nddr_deploy.benchmark.pick_report import PickReport, missed_text
from nddr_deploy.benchmark.progress import Progress
from nddr_deploy.benchmark.turns import Turns
from nddr_deploy.card.card_file import card_path
from nddr_deploy.card.make import update_card, write_card
from nddr_deploy.data import DATASETS
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.machine import default_threads, describe_machine
from nddr_deploy.errors import BudgetError, ConfigError
from nddr_deploy.evaluate.sample_scores import SampleScores


def pick(
    model: str | os.PathLike[str],
    *,
    budgets: Sequence[str] = (),
    sure: bool = False,
    int8: str | os.PathLike[str] | None = None,
    against: Sequence[str] | None = None,
    data: str | None = None,
    split: str = "val",
    options: Mapping[str, Any] | None = None,
    images: str | None = None,
    limit: int | None = None,
    threads: int | None = None,
    rounds: int = 5,
    seconds_per_case: float = 15.0,
    progress: bool = False,
) -> PickReport:
    """Measure every form of a model in every runtime and precision that this machine has, and choose.

    Each case runs in a process of its own, which first judges all samples and is then timed by the clock, the cases
    taking turns; so what is judged is what is timed. Of those that keep every budget the fastest is chosen; see
    `pick_choice.decide`. The choice and the times go into the card of the int8 form, or into a card that is made for
    the model itself where there is no int8 form with one.

    >>> pick("model.onnx", budgets=["segmentation.mIoU=-0.5"], data="rooms").command        # doctest: +SKIP
    'nddr-infer --engine model.int8.onnx --backend openvino --precision int8 --input INPUT --output OUTPUT'

    Args:
        model: in FP32, from nddr-export. In ONNX Runtime it is what every change is measured from.
        budgets: what metrics may lose, see `evaluate.budget.parse_budgets`; none takes those in the card.
        sure: they must hold at the worse end of the 95 % interval, too.
        int8: the int8 form; None looks beside the model, see `find_contenders`.
        against: choose among these cases only, all of which must run.
        data, split, options: labelled data to judge on; None takes what the card names.
        images: pictures to judge on without labels (of a data set, too: `split` and `options` are then its own), on
            which the FP32 model's results are the truth.
        limit: at most so many samples; None is as many as the card's, or 300.
        threads: of a pass; None is `machine.default_threads()`.
        rounds: how often the cases take turns.
        seconds_per_case: of measuring time, per case, spread over the rounds.
        progress: show a progress bar on stderr, if that is a terminal.

    Raises:
        ConfigError: no budget, nothing to judge on, or a wrong option.
        InputError: data or pictures cannot be read.
        ModelFileError, UnsupportedError, MissingPackageError: the model, its card or a case of `against` cannot be
            used.
        BudgetError: no case keeps the budgets. Nothing is written.
    """
    _check(data, options, images, limit, threads, rounds, seconds_per_case)
    contenders = find_contenders(model, int8=int8, against=against)
    carded, card = card_of(contenders)
    cores = threads or default_threads()
    with open_engine(model, REFERENCE, threads=cores) as reference:
        judge = open_judge(
            reference,
            card,
            budgets=budgets,
            data=data,
            split=split,
            options=options,
            images=images,
            limit=limit,
            sure=sure,
            progress=progress,
        )
        steps = len(judge.evaluation) * (len(contenders.cases) + 1) + rounds * len(contenders.cases)
        with Progress(steps if progress and sys.stderr.isatty() else None) as shown:
            shown.say("judging FP32")
            before = judge.evaluation.score(reference.infer, progress=lambda count: shown.advance())
            _check_measured(before, judge)
            turns = Turns(
                reference.manifest,
                rounds,
                seconds_per_case / rounds,
                shown,
                contenders.not_run,
                strict=against is not None,
            )
            judged, clock = measure(contenders, judge, before, turns, cores, shown)
        decision = decide(judged)
        if decision is None:
            raise BudgetError(missed_text(judged, judge.budgets))
        choice = choice_of(decision, judge, cores)
        latency = latency_of(judged, reference.manifest, cores, clock)
        if carded == contenders.subject.path:
            made = fp32_card(carded, reference, judge, before, choice, latency)
            write_card(made, (), carded)
        else:
            update_card(carded, choice=choice, latency=latency)
    return PickReport(
        contenders=contenders,
        manifest=reference.manifest,
        judge=judge,
        judged=tuple(judged),
        decision=decision,
        clock=clock,
        threads=cores,
        threads_asked=threads,
        machine=describe_machine(),
        versions=installed_versions(),
        card=card_path(carded),
    )


def _check(
    data: str | None,
    options: Mapping[str, Any] | None,
    images: str | None,
    limit: int | None,
    threads: int | None,
    rounds: int,
    seconds_per_case: float,
) -> None:
    if data is not None and images is not None:
        raise ConfigError("--data and --images both name what is judged on. Give one of them.")
    if data is None and images not in DATASETS and options:
        raise ConfigError(f"The options {', '.join(options)} are of a data set to judge on, and none was given.")
    if rounds < 1 or not seconds_per_case > 0:
        raise ConfigError(f"rounds and seconds_per_case must be above zero; got {rounds}, {seconds_per_case}.")
    for name, value in (("limit", limit), ("threads", threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}: got {value}; expected a whole number from 1.")


def _check_measured(before: SampleScores, judge: Judge) -> None:
    """A budget on a metric that the samples never show can hold for no case."""
    results = before.result()
    for budget in judge.budgets:
        value = results[budget.task][budget.metric]
        if value != value:
            raise BudgetError(
                f"budget {budget.text!r}: {budget.task}.{budget.metric} cannot be measured on "
                f"{judge.evaluation.about}, so no case can keep it. Judge on other samples, or leave it out."
            )
