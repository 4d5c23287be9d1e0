"""A model file against its card, on the machine at hand: what changed?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nddr_deploy.card.card_file import find_card, read_card
from nddr_deploy.card.file_checks import check_file, check_reference
from nddr_deploy.card.function_checks import NO_NUMBERS, REPEATED, check_parity_kept, check_probes, tolerance
from nddr_deploy.card.latency import ROUNDS, Timed, time_engines
from nddr_deploy.card.measured import Latency, LatencyCase
from nddr_deploy.card.metric_checks import check_metrics, data_of_card, labelled, pictures
from nddr_deploy.card.schema import Card
from nddr_deploy.card.verification import PARTS, Check, Verification
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.base import Engine
from nddr_deploy.engines.machine import available_cores, describe_machine
from nddr_deploy.engines.table import SUFFIXES
from nddr_deploy.errors import ConfigError, ModelFileError
from nddr_deploy.evaluate.sample_scores import EvaluationSet
from nddr_deploy.manifest import Manifest
from nddr_deploy.page.figures import times_text
from nddr_deploy.progress import progress_bar

SECONDS = 1.0  # of measuring, each of the two cases


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
    if not path.is_file():
        raise ModelFileError(f"{path} does not exist or is no file; expected a model (.onnx) or an engine (.trt).")
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
            _check_same_model(path, engine.manifest, Path(reference), fp32)
        function, found = check_probes(engine, known.probes)
        checks += function
        if found is not None:
            checks += check_parity_kept(known.probes, found, fp32)
        evaluation: EvaluationSet | str
        if any(check.now == NO_NUMBERS for check in function):
            evaluation = "what the model returns cannot be scored"
        elif images is not None and fp32 is not None:
            evaluation = pictures(images, engine, fp32, known, limit, progress=progress)
        elif data is not None:
            evaluation = labelled(data, split, options or {}, engine, limit)
        else:
            evaluation = data_of_card(known, engine, limit)
        exact = found is not None and tolerance(known.probes, found)[0] == REPEATED
        checks += check_metrics(known, evaluation, engine, exact=exact, progress=progress)
        threads_text = "thread" if engine.threads == 1 else "threads"
        runs_on = f"{engine.backend} {engine.precision}, {engine.threads} {threads_text}, {describe_machine().cpu}"
        case = Timed(path, engine.backend, engine.precision)
    if latency:
        checks += _latency(case, known, reference, threads, progress)
    return Verification(path, card_file, runs_on, tuple(checks), summarise(checks))


def summarise(checks: list[Check]) -> str:
    """Which of file, function, metrics changed, in a sentence or two that a person can act on."""
    changed = {part: [check for check in checks if check.part == part and check.verdict == "changed"] for part in PARTS}
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
            said.append("On the probe images it computes the same, as far as this check can tell.")
    if function:
        said.append("It computes something else than when the card was made.")
    if changed["parity"]:
        said.append("It is farther from FP32.")
    return " ".join(said)


def _check_same_model(path: Path, manifest: Manifest, reference: Path, fp32: Engine) -> None:
    if fp32.precision != "fp32":
        raise ConfigError(f"reference: {reference} is an {fp32.precision} model; expected the FP32 one.")
    mine, others = [[task.name for task in each.tasks] for each in (manifest, fp32.manifest)]
    if missing := [name for name in mine if name not in others]:
        raise ConfigError(
            f"reference: {reference} has {', '.join(others)} and no {', '.join(missing)}, so {path} was not made from "
            "it. Give the FP32 model that was."
        )


def _backend(path: Path, card: Card) -> str | None:
    able = SUFFIXES.get(path.suffix.lower(), ())
    return card.probes.backend if card.probes.backend in able else None


def _latency(
    case: Timed, card: Card, reference: str | os.PathLike[str] | None, threads: int | None, progress: bool
) -> tuple[Check, ...]:
    """Told, never judged: another machine has other times."""
    then = _same_case(card, case)
    if threads is None and card.latency is not None:
        threads = max(1, min(card.latency.threads, available_cores()))
    cases = [case] if reference is None else [Timed(reference), case]
    with progress_bar("latency", ROUNDS * len(cases), shown=progress) as told:
        measured = time_engines(cases, threads=threads, rounds=ROUNDS, seconds=SECONDS, progress=told)
    now = measured.cases[-1]
    before = "–" if then is None else f"{then.median_ms:.2f} ms"
    what = f"a pass on {measured.threads} thread{'s' if measured.threads > 1 else ''}"
    checks = [Check("latency", what, before, f"{now.median_ms:.2f} ms", "note", _other(card, measured))]
    if reference is not None:
        ratio = "–" if then is None else times_text(then.speedup)
        checks.append(Check("latency", "speed-up over FP32", ratio, times_text(now.speedup), "note"))
    return tuple(checks)


def _other(card: Card, measured: Latency) -> str:
    """In what the card's conditions were others."""
    if card.latency is None:
        return ""
    differs = {
        "machine": card.latency.machine != measured.machine,
        f"number of threads ({card.latency.threads})": card.latency.threads != measured.threads,
        f"clock ({card.latency.clock})": card.latency.clock != measured.clock,
    }
    named = [what for what, other in differs.items() if other]
    return f"the card's is of another {' and '.join(named)}" if named else ""


def _same_case(card: Card, case: Timed) -> LatencyCase | None:
    if card.latency is None:
        return None
    for known in card.latency.cases:
        if (known.file, known.backend, known.precision) == (card.model.name, case.backend, case.precision):
            return known
    return None
