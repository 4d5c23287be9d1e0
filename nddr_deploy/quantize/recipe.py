"""The steps from a float model to a quantised one with a deployment card."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from nddr_deploy import optional
from nddr_deploy.engines.machine import describe_machine
from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.errors import BudgetError
from nddr_deploy.evaluate.budget import parse_budgets
from nddr_deploy.evaluate.sample_scores import EvaluationSet
from nddr_deploy.files import finished_file
from nddr_deploy.graph.calibration import Range
from nddr_deploy.graph.flat import check_flat
from nddr_deploy.graph.lint_rule import Target
from nddr_deploy.graph.metadata import manifest_of, read_model
from nddr_deploy.graph.quantize import observed
from nddr_deploy.progress import progress_bar
from nddr_deploy.quantize.cache import cache_folder, calibrated
from nddr_deploy.quantize.checks import (
    check_layers,
    check_measured,
    check_options,
    check_places,
    check_scored,
    checked_target,
)
from nddr_deploy.quantize.judging import Judging, open_judging
from nddr_deploy.quantize.mix import find_mix
from nddr_deploy.quantize.report import QuantizeReport, head_text
from nddr_deploy.quantize.sensitivity import Sensitivity
from nddr_deploy.quantize.streams import Form, choose_form, disagreement_of, joining
from nddr_deploy.quantize.trials import Trials
from nddr_deploy.quantize.write import Made, write_model

COMPARED = 32  # pictures that forms of the streams are compared on
ENDINGS: Mapping[Target, str] = {"cpu": ".int8.onnx", "tensorrt": ".int8.trt.onnx", "tensorrt8": ".int8.trt8.onnx"}


def quantize_model(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    calibration: str,
    calibration_split: str = "train",
    calibration_options: Mapping[str, Any] | None = None,
    calibration_limit: int = 256,
    method: str = "minmax",
    percentile: float | None = None,
    data: str | None = None,
    split: str = "val",
    options: Mapping[str, Any] | None = None,
    images: str | None = None,
    limit: int = 300,
    budgets: Sequence[str] = (),
    sure: bool = False,
    search_limit: int = 64,
    max_trials: int | None = None,
    sensitivity: str | os.PathLike[str] | None = None,
    target: str = "cpu",
    keep: Collection[str] = (),
    streams: str = "auto",
    reduce_range: bool = False,
    cache: bool = True,
    report: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> QuantizeReport:
    """Write an int8 form of an exported model, with a card that says what it costs each task.

    Ranges are measured on some pictures, streams of different range are equalised, and the result is judged on others.
    Where plain quantisation misses a budget, the fewest layers that meet all of them stay in higher precision.

    >>> quantize_model("model.onnx", calibration="photos/", budgets=["segmentation.PAcc=-1.5"])     # doctest: +SKIP

    Args:
        model: an ONNX file in float32 that nddr-export wrote.
        output: the int8 file; None is the model's path with `.int8.onnx` (`.int8.trt.onnx`, `.int8.trt8.onnx`). Its
            card, `.card.json` and `.card.html`, lies beside it.
        calibration: a folder, a pattern, a video, or a data set's name: pictures that ranges are measured on.
        calibration_split, calibration_options: of that data set.
        calibration_limit: at most so many pictures.
        method, percentile: of choosing a range, see `graph.calibration.calibrate`; None is 99.99.
        data, split, options: labelled data to judge on.
        images: pictures to judge on without labels (of a data set, too: `split` and `options` are then its own): the
            float model's results are the truth. With neither, every fourth picture of the calibration is kept aside.
        limit: at most so many samples to judge on.
        budgets: what metrics may lose, see `evaluate.budget.parse_budgets`.
        sure: they must hold at the worse end of the 95 % interval, too.
        search_limit: samples for each trial of a search; its result is then judged on all.
        max_trials: of the search; None goes on to its end.
        sensitivity: write the layer x task matrix as PREFIX.csv and PREFIX.png.
        target: "cpu", "tensorrt" (10 and later) or "tensorrt8" (8.6).
        keep: names of nodes to leave in higher precision.
        streams: what is done where NDDR joins streams, one of `streams.FORMS`.
        reduce_range: 7-bit weights, for processors without VNNI.
        cache: keep what was measured in ~/.cache/nddr-deploy, and use what is there.
        report: a JSON file for the outcome; written also when a budget is missed.
        progress: show progress bars on stderr, if that is a terminal.

    Raises:
        ConfigError: an option is wrong.
        ModelFileError, UnsupportedError: the model cannot be quantised.
        InputError: pictures or data cannot be used.
        BudgetError: no mix meets the budgets. The best attempt is kept as `.best-attempt.onnx`, with its card.
    """
    source, aim = Path(model), checked_target(target)
    final = Path(output) if output is not None else default_output(source, aim)
    check_options(
        calibration=calibration,
        target=target,
        method=method,
        streams=streams,
        data=data,
        images=images,
        options=options,
        calibration_options=calibration_options,
        percentile=percentile,
        calibration_limit=calibration_limit,
        limit=limit,
        search_limit=search_limit,
        max_trials=max_trials,
    )
    percentile = 99.99 if percentile is None else percentile
    check_places(source, final, sensitivity, report)
    graph = read_model(source)
    manifest = manifest_of(graph, source=str(source))
    check_flat(graph)
    check_layers(graph, aim, (*keep, *(joining(graph) if streams == "float" else ())), streams)
    promised = parse_budgets(budgets, manifest.tasks, labelled=data is not None)
    judging = open_judging(
        manifest,
        run_bytes(graph.SerializeToString()),
        calibration=calibration,
        calibration_split=calibration_split,
        calibration_options=calibration_options,
        calibration_limit=calibration_limit,
        data=data,
        split=split,
        options=options,
        images=images,
        limit=limit,
        progress=progress,
    )
    check_scored(promised, judging)
    steps = _Steps(
        graph, judging, aim, method, percentile, keep, reduce_range, sure, search_limit, cache=cache, progress=progress
    )
    form, forms = choose_form(graph, streams, steps.calibrate, steps.disagreement, keep, searched=bool(promised))
    some = steps.search_trials(form)
    whole = steps.all_samples(some)
    check_measured(promised, whole)
    mix = find_mix(
        some,
        whole,
        promised,
        sure=sure,
        max_trials=max_trials,
        matrix=sensitivity is not None,
        progress=progress,
    )
    if sensitivity is not None and mix.sensitivity is not None:
        _write_sensitivity(mix.sensitivity, sensitivity)
    made = Made(source, graph, judging, whole, mix, form, promised, sure, aim, method, percentile)
    path, card = write_model(final, best_attempt(final), made, progress=progress)
    measured = {each.name: each.disagreement for each in forms}
    done = QuantizeReport(source, path, card, measured, form.name, form.layers, mix.sensitivity, mix.outcome)
    if report is not None:
        with finished_file(report) as json_file:
            json_file.write_text(json.dumps(done.to_dict(), indent=1) + "\n")
    if path != final:
        raise BudgetError(_missed(done, final))
    return done


def default_output(model: Path, target: Target) -> Path:
    """`model.onnx` -> `model.int8.onnx`."""
    return model.parent / f"{model.name.removesuffix('.onnx')}{ENDINGS[target]}"


def best_attempt(final: Path) -> Path:
    """`model.int8.onnx` -> `model.int8.best-attempt.onnx`."""
    return final.with_name(f"{final.stem}.best-attempt.onnx")


class _Steps:
    """What the steps share: how graphs are calibrated, and made into trials."""

    def __init__(
        self,
        graph: onnx.ModelProto,
        judging: Judging,
        target: Target,
        method: str,
        percentile: float,
        keep: Collection[str],
        reduce_range: bool,
        sure: bool,
        search_limit: int,
        *,
        cache: bool,
        progress: bool,
    ) -> None:
        self._graph = graph
        self._keep = frozenset(keep)
        self._judging = judging
        self._method = method
        self._percentile = percentile
        self._folder = cache_folder() if cache else None
        self._progress = progress
        self._agreement: EvaluationSet | None = None
        self._searched = judging.evaluation.first(search_limit)
        as_written = target != "cpu"  # optimised, ONNX Runtime would quantise more than is said
        self._make = partial(
            Trials,
            target=target,
            run=partial(run_bytes, as_written=as_written),
            runtime=_runtime(as_written),
            reduce_range=reduce_range,
            sure=sure,
            folder=self._folder,
            reference=graph,
            run_reference=run_bytes,
        )
        self._target = target

    def calibrate(self, graph: onnx.ModelProto, tensors: Sequence[str]) -> dict[str, Range]:
        batch = manifest_of(self._graph, source="the model").batch
        passes = len(self._judging.calibration.batches(batch))
        with progress_bar("ranges", passes, shown=self._progress) as advance:
            return calibrated(
                graph,
                tensors,
                self._judging.calibration,
                run_bytes,
                batch=batch,
                method=self._method,
                percentile=self._percentile,
                symmetric=self._target != "cpu",
                folder=self._folder,
                progress=lambda: advance(1),
            )

    def disagreement(self, graph: onnx.ModelProto, keep: Collection[str]) -> float:
        """With the float model on some pictures of the judging, everything in the graph quantised but these layers.

        Infinite where nothing is left to quantise.
        """
        if self._agreement is None:
            self._agreement = self._judging.agreement(COMPARED, run_bytes(self._graph.SerializeToString()))
        ranges = self.calibrate(graph, observed(graph, self._target))
        trials = self._make(graph, ranges, evaluation=self._agreement, fixed=self._keep.union(keep))
        return disagreement_of(trials.changes(())) if trials.layers else math.inf

    def search_trials(self, form: Form) -> Trials:
        """Trials of a form on the samples of the search."""
        ranges = self.calibrate(form.model, observed(form.model, self._target))
        return self._make(form.model, ranges, evaluation=self._searched, fixed=self._keep.union(form.keep))

    def all_samples(self, trials: Trials) -> Trials:
        """The same on all samples."""
        if len(self._searched) == len(self._judging.evaluation):
            return trials
        return self._make(trials.model, trials.ranges, evaluation=self._judging.evaluation, fixed=trials.fixed)


def _runtime(as_written: bool) -> str:
    """What trials run on: integers are multiplied otherwise by other processors and versions."""
    machine = describe_machine()
    how = "as written" if as_written else "optimised"
    release = optional.load("nddr_deploy.engines.silent_ort:onnxruntime", extra="cpu").__version__
    return f"onnxruntime {release} {how}, {machine.cpu}, {', '.join(machine.flags)}"


def _write_sensitivity(found: Sensitivity, prefix: str | os.PathLike[str]) -> None:
    found.write_csv(f"{os.fspath(prefix)}.csv")
    found.draw(f"{os.fspath(prefix)}.png")


def _missed(done: QuantizeReport, final: Path) -> str:
    told = "; ".join(f"{head.budget}: {head_text(head)}" for head in done.card.heads if head.met is False)
    return (
        f"{final} was not written: no mix of integer and float layers that was tried meets every budget ({told}). The "
        f"best attempt is {done.path}. Allow more, or raise --max-trials if it was set."
    )
