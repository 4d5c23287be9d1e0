"""The quantised file and its card: checked, and put in place together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from nddr_deploy.card.card_file import card_path, page_path
from nddr_deploy.card.html import render
from nddr_deploy.card.latency import Timed, time_engines
from nddr_deploy.card.make import make_card
from nddr_deploy.card.measured import Latency
from nddr_deploy.card.pictures import worst_pictures
from nddr_deploy.card.schema import Calibration, Card, Evaluation, Link, Search
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.errors import MissingPackageError, ModelFileError, UnsupportedError
from nddr_deploy.evaluate.budget import Budget
from nddr_deploy.evaluate.parity import Model, ParityReport, check_parity
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.evaluate.sample_scores import compare
from nddr_deploy.files import finished_files, sha256
from nddr_deploy.graph.fp16 import to_fp16
from nddr_deploy.graph.fp16_limits import Kept
from nddr_deploy.graph.lint_rule import Target
from nddr_deploy.graph.metadata import manifest_of, write_manifest
from nddr_deploy.graph.quantize_lint import lint
from nddr_deploy.graph.ranges import scan_ranges
from nddr_deploy.progress import progress_bar
from nddr_deploy.quantize.judging import Judging
from nddr_deploy.quantize.mix import Mix
from nddr_deploy.quantize.report import JOINING, NEEDED
from nddr_deploy.quantize.search import total_excess
from nddr_deploy.quantize.streams import Form
from nddr_deploy.quantize.trials import Trials

SCANNED = 16  # pictures that decide what FP16 can hold
TOLERANCE, SHARE = 0.2, 0.1  # of a head's range, and of its values that may lie beyond: more is no rounding
AS_WRITTEN = "onnxruntime-as-written"


@dataclass(frozen=True)
class Made:
    """What was decided, and on what.

    Attributes:
        source: the float model's file; `original` its graph.
        whole: trials on all samples.
        form: what was done to the streams.
        budgets, sure: what was promised.
        method, percentile: of the calibration.
    """

    source: Path
    original: onnx.ModelProto
    judging: Judging
    whole: Trials
    mix: Mix
    form: Form
    budgets: Sequence[Budget]
    sure: bool
    target: Target
    method: str
    percentile: float


def write_model(final: Path, attempt: Path, made: Made, *, progress: bool = False) -> tuple[Path, Card]:
    """Write the model, its card and its page: all three, or none.

    What is judged and timed is the file itself, as it is on disk.

    Args:
        final: where it goes if every budget holds.
        attempt: where else.

    Returns:
        Where it went, and its card.

    Raises:
        ModelFileError: the linter finds what the target would not take: a fault of this program.
        InputError, OutputError: the files cannot be written.
    """
    graph, kept = _graph(made)
    manifest = manifest_of(graph, source=str(final))
    hashes = {**manifest.hashes, "onnx": sha256(made.source)}
    write_manifest(graph, manifest.model_copy(update={"hashes": hashes}))
    _check(graph, made.target, final)
    try:
        with finished_files(*_files(final)) as (model_file, json_file, page_file):
            onnx.save_model(graph, model_file)
            card, page = _measure(model_file, final, attempt, made, kept, progress=progress)
            json_file.write_text(card.to_json(), encoding="utf-8")
            page_file.write_text(page, encoding="utf-8")
            if card.model.name != final.name:
                with finished_files(*_files(attempt)) as others:
                    for file, other in zip((model_file, json_file, page_file), others, strict=True):
                        file.replace(other)
                raise _Missed
    except _Missed:
        return attempt, card
    return final, card


class _Missed(Exception):
    """A budget does not hold, so nothing gets the final name."""


def _files(path: Path) -> tuple[Path, Path, Path]:
    return path, card_path(path), page_path(path)


def _measure(
    file: Path, final: Path, attempt: Path, made: Made, kept: Collection[Kept], *, progress: bool
) -> tuple[Card, str]:
    """The card and the page of a file, which gets its name by whether the budgets hold."""
    backend = "onnxruntime" if made.target == "cpu" else AS_WRITTEN
    evaluation, before = made.judging.evaluation, made.whole.baseline()
    with open_engine(file, backend) as engine, open_engine(made.source, "onnxruntime") as reference:
        with progress_bar("judging", len(evaluation), shown=progress) as advance:
            after = evaluation.score(engine.infer, progress=advance)
        changes = compare(before, after, evaluation.tasks)
        held = total_excess(changes, made.budgets, sure=made.sure) == 0
        path = final if held else attempt
        card = make_card(
            file,
            engine,
            reference=reference,
            name=path.name,
            target=made.target,
            chain=[Link(role="onnx", file=made.source.name, sha256=sha256(made.source))],
            calibration=_calibration(made),
            kept=kept,
            equalisation=made.form.layers,
            evaluation=Evaluation.of(evaluation, made.judging.dataset),
            changes=changes,
            budgets=made.budgets,
            sure=made.sure,
            parity={"fp32 to int8": _parity(reference.infer, engine.infer, made)},
            latency=_latency(path, file, made, progress=progress),
            search=_search(made.mix, held),
        )
        pictures = worst_pictures(evaluation, before, after, reference.infer, engine.infer, this="INT8")
    return card, render(card, pictures)


def _search(mix: Mix, held: bool) -> Search:
    """How the mix was found; trials are judged before the rest becomes FP16, and with fewer resamples."""
    about = mix.about
    if held != mix.met:
        about += "; the file itself, judged on all samples, " + ("meets them" if held else "misses one")
    return Search(kept=mix.keep, trials=mix.trials, met=held, about=about)


def _graph(made: Made) -> tuple[onnx.ModelProto, tuple[Kept, ...]]:
    """The graph for its target, and what stayed in higher precision."""
    quantised = made.whole.graph(made.mix.keep)
    reasons = {**dict.fromkeys(made.form.keep, JOINING), **dict.fromkeys(made.mix.keep, NEEDED)}
    kept = tuple(Kept(each.node, reasons.get(each.node, each.reason)) for each in quantised.kept)
    if made.target != "tensorrt":
        return quantised.model, kept
    batch = manifest_of(made.original, source="the model").batch
    some = [images for images, _ in zip(made.judging.calibration.batches(batch), range(SCANNED), strict=False)]
    half = to_fp16(quantised.model, scan_ranges(quantised.model, run_bytes, some))
    return half.model, kept


def _check(graph: onnx.ModelProto, target: Target, path: Path) -> None:
    wrong = [finding for finding in lint(graph, target) if finding.level == "error"]
    if wrong:
        raise ModelFileError(f"{path} was not written: {wrong[0].message} (nddr-lint: {len(wrong)} errors.)")


def _calibration(made: Made) -> Calibration:
    if made.method == "percentile":
        return Calibration.of(made.judging.calibration, made.method, percentile=made.percentile)
    return Calibration.of(made.judging.calibration, made.method)


def _parity(reference: Model, model: Model, made: Made) -> ParityReport:
    manifest = manifest_of(made.original, source="the model")
    images = probe_images(manifest.size_hw, max(3, manifest.batch))
    batches = [
        images[start : start + manifest.batch] for start in range(0, len(images) - manifest.batch + 1, manifest.batch)
    ]
    return check_parity(
        reference,
        model,
        batches,
        manifest.tasks,
        tolerance=TOLERANCE,
        share=SHARE,
        outputs=manifest.outputs,
        resize=manifest.resize,
    )


def _latency(path: Path, model_file: Path, made: Made, *, progress: bool) -> Latency | None:
    """On this machine's CPU; None for a file that is meant for a GPU."""
    if made.target != "cpu":
        return None
    cases = [
        Timed(made.source, "onnxruntime", label="FP32, onnxruntime"),
        Timed(model_file, "onnxruntime", label="INT8, onnxruntime"),
    ]
    try:
        with open_engine(made.source, "openvino"), open_engine(model_file, "openvino"):
            cases += [
                Timed(made.source, "openvino", "fp32", label="FP32, openvino"),
                Timed(model_file, "openvino", label="INT8, openvino"),
            ]
    except (MissingPackageError, UnsupportedError):
        pass  # it is not needed
    with progress_bar("latency", 5 * len(cases), shown=progress) as advance:
        found = time_engines(cases, progress=advance)
    renamed = [
        case.model_copy(update={"file": path.name}) if case.file == model_file.name else case for case in found.cases
    ]
    return found.model_copy(update={"cases": tuple(renamed)})
