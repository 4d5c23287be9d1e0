"""A model file against its card, on the machine at hand: what changed?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nddr_deploy.card.card_file import find_card, read_card
from nddr_deploy.card.figures import times_text
from nddr_deploy.card.file_checks import check_file, check_reference
from nddr_deploy.card.function_checks import REPEATED, check_parity_kept, check_probes, tolerance
from nddr_deploy.card.latency import Timed, time_engines
from nddr_deploy.card.measured import LatencyCase, Probes
from nddr_deploy.card.metric_checks import check_metrics
from nddr_deploy.card.schema import Card, DataSet
from nddr_deploy.card.verification import Check, Verification
from nddr_deploy.data import open_dataset
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.base import Engine
from nddr_deploy.engines.machine import describe_machine
from nddr_deploy.engines.table import SUFFIXES
from nddr_deploy.errors import ConfigError, NddrError
from nddr_deploy.evaluate.sample_scores import EvaluationSet
from nddr_deploy.inference.image_set import open_images
from nddr_deploy.preprocess import FitMode


def verify(
    model: str | os.PathLike[str],
    card: str | os.PathLike[str] | None = None,
    *,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    reference: str | os.PathLike[str] | None = None,
    data: str | None = None,
    split: str = "val",
    options: Mapping[str, Any] | None = None,
    images: str | None = None,
    limit: int | None = None,
    latency: bool = True,
    progress: bool = False,
) -> Verification:
    """Hash chain, probe images, parity, metrics and latency, each against the card.

    >>> verify("model.int8.onnx").changed       # doctest: +SKIP
    False

    Args:
        model: an ONNX file, or a TensorRT plan that was built from one.
        card: its card; None is the one beside it.
        backend, precision, threads: as for `open_engine`; None takes the card's backend where it opens such a file.
        reference: the FP32 model, for parity and for the ratio of times.
        data, split, options: a data set instead of the card's.
        images: pictures instead (a folder, a pattern, a list, a video), on which the FP32 model's results are the
            truth.
        limit: use only the first images.
        latency: also measure the time of a pass.
        progress: show a progress bar on stderr, if that is a terminal.

    Raises:
        ConfigError: options that exclude each other, or need another.
        ModelFileError: the model, the card or the reference cannot be used.
        InputError: the data or the pictures cannot be read; the model returns NaN.
        UnsupportedError, MissingPackageError: the model cannot be run so here.
    """
    path = Path(model)
    if data is not None and images is not None:
        raise ConfigError("--data and --images exclude each other. Give one of them.")
    if images is not None and reference is None:
        raise ConfigError(
            "--images needs --reference: pictures have no labels, so the FP32 model's results are the truth."
        )
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: got {limit}; expected a whole number from 1.")
    card_file = Path(card) if card is not None else find_card(path)
    known = read_card(card_file)
    checks = list(check_file(path, known))
    chosen = backend or _backend(path, known)
    with ExitStack() as stack:
        engine = stack.enter_context(open_engine(path, chosen, threads=threads, precision=precision))
        fp32 = None
        if reference is not None:
            checks.append(check_reference(Path(reference), known))
            fp32 = stack.enter_context(open_engine(reference, threads=threads))
        function, found = check_probes(engine, known.probes)
        checks += function
        if found is not None:
            checks += check_parity_kept(known.probes, found, fp32)
        asked = (
            None if data is None else DataSet.model_validate({"name": data, "split": split, "options": options or {}})
        )
        checks += _metrics(engine, fp32, known, found, asked, images, limit, progress)
        runs_on = f"{engine.backend} {engine.precision}, {engine.threads} threads, {describe_machine().cpu}"
        case = Timed(path, engine.backend, engine.precision)
    if latency:
        checks += _latency(case, known, reference, threads)
    return Verification(path, card_file, runs_on, tuple(checks), summarise(checks))


def summarise(checks: list[Check]) -> str:
    """Which of file, function, metrics changed, in a sentence or two that a person can act on."""
    changed = {
        part: [check for check in checks if check.part == part and check.verdict == "changed"] for part in _PARTS
    }
    if not any(changed.values()):
        again = any(check.what == "bytes" and check.verdict == "note" for check in checks)
        return (
            "The file was saved again: other bytes, the same content. Nothing else changed."
            if again
            else "Nothing changed."
        )
    said = []
    function = changed["function"] or changed["metrics"]
    if changed["file"]:
        names = ", ".join(check.what for check in changed["file"])
        said.append(f"This is not the card's model ({names}).")
        ran = any(check.part == "function" and check.verdict != "skipped" for check in checks)
        if not function and ran:
            said.append("On the probe images it computes the same.")
    if function:
        said.append("It computes something else than when the card was made.")
    if changed["parity"]:
        said.append("It is farther from FP32.")
    return " ".join(said)


_PARTS = ("file", "function", "parity", "metrics", "latency")


def _backend(path: Path, card: Card) -> str | None:
    able = SUFFIXES.get(path.suffix.lower(), ())
    return card.probes.backend if card.probes.backend in able else None


def _metrics(
    engine: Engine,
    fp32: Engine | None,
    card: Card,
    found: Probes | None,
    asked: DataSet | None,
    images: str | None,
    limit: int | None,
    progress: bool,
) -> tuple[Check, ...]:
    exact = found is not None and tolerance(card.probes, found)[0] == REPEATED
    if images is not None and fp32 is not None:
        pictures = open_images(images, engine.manifest, limit=limit or _samples(card))
        evaluation = EvaluationSet.against(engine.manifest, fp32.infer, pictures, about=pictures.about)
        return check_metrics(card, evaluation, evaluation.score(engine.infer).result(), exact=exact)
    wanted = asked or (card.evaluation.dataset if card.evaluation is not None else None)
    if wanted is None:
        return (Check("metrics", "every head", "", "", "skipped", _no_data(card)),)
    try:
        dataset = open_dataset(wanted.name, wanted.split, **wanted.options)
    except NddrError as error:
        if asked is not None:
            raise
        return (Check("metrics", "every head", "", "", "skipped", f"the card's data cannot be opened here: {error}"),)
    fit: FitMode = wanted.fit
    count = limit if limit is not None else (_samples(card) if asked is None else None)
    about = f"{wanted.name} ({wanted.split})"
    evaluation = EvaluationSet.labelled_data(engine.manifest, dataset, limit=count, fit=fit, about=about)
    return check_metrics(card, evaluation, evaluation.score(engine.infer).result(), exact=exact)


def _samples(card: Card) -> int:
    return card.evaluation.samples if card.evaluation is not None else 0


def _no_data(card: Card) -> str:
    if card.evaluation is None:
        return "the card has no metrics; give --data"
    return "the card's images are no data set by name; give --data, or --images with --reference"


def _latency(
    case: Timed, card: Card, reference: str | os.PathLike[str] | None, threads: int | None
) -> tuple[Check, ...]:
    """Told, never judged: another machine has other times."""
    then = _same_case(card, case)
    threads = threads if threads is not None else (card.latency.threads if card.latency is not None else None)
    cases = [case] if reference is None else [Timed(reference), case]
    measured = time_engines(cases, threads=threads)
    now = measured.cases[-1]
    place = "" if card.latency is None or card.latency.machine == measured.machine else "the card's is another machine"
    before = "–" if then is None else f"{then.median_ms:.2f} ms"
    checks = [Check("latency", f"a pass, {now.label}", before, f"{now.median_ms:.2f} ms", "note", place)]
    if reference is not None:
        ratio = "–" if then is None else times_text(then.speedup)
        checks.append(Check("latency", "speed-up over FP32", ratio, times_text(now.speedup), "note"))
    return tuple(checks)


def _same_case(card: Card, case: Timed) -> LatencyCase | None:
    if card.latency is None:
        return None
    for known in card.latency.cases:
        if (known.file, known.backend, known.precision) == (card.model.name, case.backend, case.precision):
            return known
    return None
