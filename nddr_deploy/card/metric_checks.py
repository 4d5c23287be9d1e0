"""Are the metrics what the card says?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nddr_deploy.card.allowed import allowed_text
from nddr_deploy.card.schema import Card, HeadMetric
from nddr_deploy.card.verification import Check
from nddr_deploy.data import open_dataset
from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import NddrError
from nddr_deploy.evaluate.sample_scores import EvaluationSet
from nddr_deploy.inference.image_set import KEPT_ASIDE, ImageSet, open_images
from nddr_deploy.page.figures import change_text, value_text
from nddr_deploy.preprocess import FitMode
from nddr_deploy.progress import progress_bar

FRAMES = 100  # of the user's pictures, where the card names no number
REPEATED = 1e-6  # of the value: sums in another order
ELSEWHERE = 5e-3  # of the value: another runtime rounds otherwise; half of the 1 % that a head may usually lose


def data_of_card(card: Card, engine: Engine, limit: int | None) -> EvaluationSet | str:
    """The card's own labelled data, opened again; or why it cannot be.

    Args:
        engine: of the model that is checked.
        limit: only the first samples; None is as many as the card's.
    """
    then = card.evaluation
    if then is None:
        return "the card has no metrics; give --data"
    if then.dataset is None:
        return "the card's images are no data set by name; give them: --images with --reference"
    try:
        data = then.dataset
        count = then.samples if limit is None else limit
        return labelled(data.name, data.split, data.options, engine, count, fit=data.fit)
    except NddrError as error:  # its files are elsewhere: nothing that the model could be blamed for
        return f"the card's data cannot be opened here: {error}"


def labelled(
    name: str,
    split: str,
    options: Mapping[str, Any],
    engine: Engine,
    limit: int | None,
    *,
    fit: FitMode = "letterbox",
) -> EvaluationSet:
    """A data set by name.

    Raises:
        ConfigError, InputError: it cannot be opened, or means something else than the model.
    """
    dataset = open_dataset(name, split, **options)
    return EvaluationSet.labelled_data(engine.manifest, dataset, limit=limit, fit=fit, about=f"{name} ({split})")


def pictures(
    images: str, engine: Engine, fp32: Engine, card: Card, limit: int | None, *, progress: bool = False
) -> EvaluationSet:
    """Pictures without labels, on which the FP32 model's results are the truth.

    Where the card's were kept aside from the calibration's, and these are all of them, the same are kept aside again.

    Raises:
        InputError: they cannot be read.
    """
    known = card.evaluation.samples if card.evaluation is not None else FRAMES
    wanted = known if limit is None else limit
    found = _kept_aside(images, engine, card) if limit is None else None
    if found is None:
        with progress_bar("reading", wanted, shown=progress) as told:
            found = open_images(images, engine.manifest, limit=wanted, progress=told)
    with progress_bar("FP32", len(found), shown=progress) as told:
        return EvaluationSet.against(fp32.manifest, fp32.infer, found, about=found.about, progress=told)


def _kept_aside(images: str, engine: Engine, card: Card) -> ImageSet | None:
    """The pictures that the card's model was judged on, if the others of `images` are what it was calibrated on."""
    calibration, evaluation = card.calibration, card.evaluation
    if calibration is None or evaluation is None or evaluation.labelled:
        return None
    found = open_images(images, engine.manifest, limit=calibration.images + evaluation.samples)
    if len(found) < KEPT_ASIDE:
        return None
    others, aside = found.apart()
    return aside if others.fingerprint == calibration.sha256 else None


def check_metrics(
    card: Card,
    evaluation: EvaluationSet | str,
    engine: Engine,
    *,
    exact: bool,
    progress: bool = False,
) -> tuple[Check, ...]:
    """Every metric of the card against what is found here.

    On other images than the card's, figures are told and not judged.

    Args:
        evaluation: what to use here; or why there is nothing.
        engine: of the model.
        exact: whether runtime and machine are those of the card.
        progress: show a progress bar on stderr, if that is a terminal.
    """
    if isinstance(evaluation, str):
        return (Check("metrics", "every head", "", "", "skipped", evaluation),)
    with progress_bar("metrics", len(evaluation), shown=progress) as told:
        scores = evaluation.score(engine.infer, progress=told).result()
    then = card.evaluation
    same = then is not None and evaluation.labelled == then.labelled and evaluation.fingerprint == then.sha256
    about = "" if same else "other images or truths than the card's"
    source = "–" if then is None else f"{then.source}, {then.samples} images"
    found = f"{evaluation.about}, {len(evaluation)} images"
    data = Check("metrics", "images", source, found, "same" if same else "note", about)
    return (data, *(_check(head, scores.get(head.task, {}), same, exact) for head in card.heads))


def _check(head: HeadMetric, found: Mapping[str, float], same: bool, exact: bool) -> Check:
    what = f"{head.task} {head.metric}"
    then = value_text(head.after, head.unit)
    now = found.get(head.metric)
    if now is None or head.after is None:
        return Check("metrics", what, then, "–", "skipped", "not measured here" if now is None else "not in the card")
    if not same:
        return Check("metrics", what, then, value_text(now, head.unit), "note")  # a difference would mean nothing
    text = f"{value_text(now, head.unit)} ({change_text(now - head.after, head.unit)})"
    near = abs(now - head.after) <= (REPEATED if exact else ELSEWHERE) * max(abs(head.after), 1e-3)
    broken = _broken(head, now)
    return Check("metrics", what, then, text, "same" if near and not broken else "changed", broken)


def _broken(head: HeadMetric, now: float) -> str:
    """The budget that held then and does not now, in words."""
    if not head.met or head.allowed is None or head.before is None:
        return ""
    loss = head.before - now if head.higher_is_better else now - head.before
    return f"the budget of {allowed_text(head)} no longer holds" if loss > head.allowed else ""
