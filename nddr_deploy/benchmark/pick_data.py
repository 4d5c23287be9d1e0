"""What a pick is judged on: labelled data, pictures, or the data that the model's card names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nddr_deploy.card.schema import Card, DataSet
from nddr_deploy.data import DATASETS, open_dataset
from nddr_deploy.data.remembered import Remembered
from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import ConfigError, InputError, NddrError
from nddr_deploy.evaluate.budget import Budget, parse_budgets
from nddr_deploy.evaluate.sample_scores import EvaluationSet
from nddr_deploy.inference.image_set import open_images
from nddr_deploy.progress import progress_bar

LIMIT = 300  # samples, where neither the user nor a card says
GIVE = "Give --data NAME --split NAME, or --images with pictures of your own."


@dataclass(frozen=True)
class Judge:
    """Samples and promises.

    Attributes:
        evaluation: the samples.
        dataset: how they are opened again, where they are labelled data.
        budgets: what no case may lose more than.
        sure: at the worse end of the 95 % interval, too.
    """

    evaluation: EvaluationSet
    dataset: DataSet | None
    budgets: tuple[Budget, ...]
    sure: bool = False


def open_judge(
    reference: Engine,
    card: Card | None,
    *,
    budgets: Sequence[str] = (),
    data: str | None = None,
    split: str = "val",
    options: Mapping[str, Any] | None = None,
    images: str | None = None,
    limit: int | None = None,
    sure: bool = False,
    progress: bool = False,
) -> Judge:
    """Open what is judged on, and read the budgets.

    Args:
        reference: open on the FP32 model; of pictures without labels its results are the truth.
        card: of a form of the model: names data and budgets where the arguments do not.
        budgets, data, split, options, images, limit, sure: see `pick`.

    Raises:
        ConfigError: no budget, nothing to judge on, or a wrong one.
        InputError: data or pictures cannot be read here.
    """
    manifest = reference.manifest
    texts = budgets or [head.budget for head in (card.heads if card else ()) if head.budget]
    if not texts:
        raise ConfigError(
            "There is no budget to pick under. Give what each head may lose, as in --budget segmentation.mIoU=-0.5 "
            "(or segmentation.PAcc=-1.5 on pictures without labels), or quantise with budgets: nddr-quantize --budget."
        )
    promised = parse_budgets(texts, manifest.tasks, labelled=images is None)
    if images is not None:
        evaluation, dataset = _pictures(images, split, options, reference, limit or LIMIT, progress=progress), None
    else:
        dataset = _wanted(card, data, split, options)
        count = limit or (card.evaluation.samples if data is None and card and card.evaluation else LIMIT)
        try:
            evaluation = _labelled(dataset, reference, count)
        except NddrError as error:
            if data is not None:
                raise
            raise InputError(f"The data that the card names cannot be opened here: {error} {GIVE}") from error
    scored = [task.name for task in evaluation.tasks]
    for budget in promised:
        if budget.task not in scored:
            raise ConfigError(
                f"budget {budget.text!r}: {evaluation.about} can judge {', '.join(scored)} only. Judge on other data, "
                "or give the budgets of those."
            )
    return Judge(evaluation, dataset, promised, sure)


def _wanted(card: Card | None, data: str | None, split: str, options: Mapping[str, Any] | None) -> DataSet:
    if data is not None:
        return DataSet(name=data, split=split, options=dict(options or {}))
    if card is None or card.evaluation is None:
        raise ConfigError(f"There is nothing to judge on: the model has no card that names data. {GIVE}")
    if card.evaluation.dataset is None:
        raise ConfigError(f"The pictures that the card was judged on ({card.evaluation.source}) have no name. {GIVE}")
    return card.evaluation.dataset


def _labelled(wanted: DataSet, reference: Engine, limit: int) -> EvaluationSet:
    samples = Remembered(open_dataset(wanted.name, wanted.split, **wanted.options))
    about = f"{min(limit, len(samples))} samples of {wanted.name} ({wanted.split})"
    return EvaluationSet.labelled_data(reference.manifest, samples, limit=limit, fit=wanted.fit, about=about)


def _pictures(
    images: str, split: str, options: Mapping[str, Any] | None, reference: Engine, limit: int, *, progress: bool
) -> EvaluationSet:
    chosen = options if images in DATASETS else None
    with progress_bar("reading", limit, shown=progress) as told:
        found = open_images(images, reference.manifest, limit=limit, split=split, options=chosen or {}, progress=told)
    with progress_bar("FP32", len(found), shown=progress) as told:
        return EvaluationSet.against(reference.manifest, reference.infer, found, about=found.about, progress=told)
