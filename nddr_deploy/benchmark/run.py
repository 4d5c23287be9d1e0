"""One run that compares runtimes on one model: interleaved, every case in a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nddr_deploy.benchmark import figures
from nddr_deploy.benchmark.cases import DEFAULT, Case, default_gpu, installed_versions, parse_cases
from nddr_deploy.benchmark.floor import Rate, best
from nddr_deploy.benchmark.progress import Progress
from nddr_deploy.benchmark.report import BenchmarkReport, FloorRate, GpuFloorRates, OneThread, OnGpu, Row
from nddr_deploy.benchmark.subject import Subject
from nddr_deploy.benchmark.turns import Measured, Turns
from nddr_deploy.engines.cuda import describe_gpu, require_gpu
from nddr_deploy.engines.machine import default_threads, describe_machine
from nddr_deploy.errors import ConfigError


def run_benchmark(
    engine: str | os.PathLike[str],
    *,
    against: Sequence[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    int8: str | os.PathLike[str] | None = None,
    input: str | None = None,
    rounds: int = 5,
    seconds_per_case: float = 15.0,
    frames: int = 24,
    threads: int | None = None,
    progress: bool = False,
) -> BenchmarkReport:
    """Measure a model in several runtimes, and end to end on real input.

    Cases take turns (A B C, A B C, ...), so that whatever slows the machine slows all of them, and are compared within
    a round. Two sections: on one thread by processor time, which other work on the machine hardly changes, and on all
    cores by the clock. Instead of the first, a case on a GPU has the GPU's own time, its copies and the host's time to
    start it, and it runs with overlapping passes, too. Each case first runs twice unmeasured, and again at the start of
    each round.

    >>> run_benchmark("model.onnx", checkpoint="ckpt.pt", against=["torch", "openvino:bf16"])       # doctest: +SKIP
    >>> run_benchmark("model.trt", checkpoint="ckpt.pt", against=["torch-cuda:fp16", "tensorrt"])   # doctest: +SKIP

    Args:
        engine: the exported model (`.onnx`), or a TensorRT engine (`.trt`). All cases must do the same work as it.
        against: cases, `RUNTIME` or `RUNTIME:PRECISION`; the others are compared with the first. None is
            `cases.DEFAULT` (for a `.trt`, `cases.default_gpu`) without what this machine or missing files rule out,
            which the report names.
        model: the exported model of a TensorRT engine; the onnxruntime and openvino cases run it.
        checkpoint: what the model was exported from; the torch cases run it.
        int8: the exported model, quantised by nddr-quantize; the onnxruntime and openvino cases in int8 run it.
        input: a video, a folder of pictures, ...: what `nddr-infer` takes; None leaves end to end out.
        rounds: how often the cases take turns.
        seconds_per_case: of measuring, per case and section; every round has at least one pass.
        frames: of the input, per case and round.
        threads: what "all cores" means; None is `machine.default_threads()`.
        progress: show a progress bar on stderr, if that is a terminal.

    Raises:
        ConfigError: a wrong case or setting.
        InputError: the input cannot be read.
        ModelFileError, UnsupportedError, MissingPackageError: a case of `against` cannot run here.
    """
    if rounds < 1 or not seconds_per_case > 0 or frames < 1:
        raise ConfigError(
            f"rounds, seconds_per_case and frames must be above zero; got {rounds}, {seconds_per_case}, {frames}."
        )
    if threads is not None and threads < 1:
        raise ConfigError(f"threads: got {threads}; expected a whole number from 1.")
    if input:
        from nddr_deploy.benchmark.end_to_end import check_input

        check_input(input)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        subject = Subject.read(engine, model=model, checkpoint=checkpoint, int8=int8).matched(folder)
        not_run: dict[str, str] = {}
        cases = choose_cases(against, subject, not_run)
        if any(case.gpu for case in cases):
            require_gpu()
        cores = threads or default_threads()
        shown = stack.enter_context(
            Progress(_steps(cases, rounds, input) if progress and sys.stderr.isatty() else None)
        )
        turns = Turns(subject.manifest, rounds, seconds_per_case / rounds, shown, not_run, strict=against is not None)
        on_cpu, alone, rates = turns.one_thread([case for case in cases if not case.gpu])
        measured = turns.together([case for case in cases if case.gpu or case in on_cpu], cores, input, frames)
    floor = _floor(rates)
    gpu_floor = _gpu_floor(measured) if measured.gpu_rates else None
    return BenchmarkReport(
        model=subject.describe(),
        machine=_machine(measured),
        versions=installed_versions(),
        rounds=rounds,
        seconds_per_case=seconds_per_case,
        threads=cores,
        rows=tuple(
            Row(
                label=case.label,
                backend=case.backend,
                precision=case.precision,
                one_thread=_one_thread(alone, on_cpu, case, subject, floor),
                all_cores=figures.all_cores(measured.passes, index, subject.manifest.batch),
                memory_bytes=measured.memory_bytes[index],
                difference=figures.difference(measured.outputs[0], measured.outputs[index]),
                gpu=_on_gpu(measured, case, subject, gpu_floor),
                end_to_end=figures.end_to_end(measured.streams, index) if input else None,
            )
            for index, case in enumerate(measured.cases)
        ),
        floor=floor,
        gpu_floor=gpu_floor,
        not_run=not_run,
        input=Path(input).name if input else None,
    )


def choose_cases(against: Sequence[str] | None, subject: Subject, not_run: dict[str, str]) -> list[Case]:
    """Those that were asked for, or the usual ones; what has to be left out of these is added to `not_run`."""
    names = against
    if names is None:
        names = _usual_cases(subject, not_run)
    return parse_cases(
        names,
        model=subject.model,
        checkpoint=subject.checkpoint,
        precision=subject.precision,
        plan=subject.plan,
        plan_precision=subject.plan_precision,
        int8=subject.int8,
    )


def _usual_cases(subject: Subject, not_run: dict[str, str]) -> list[str]:
    names = list(default_gpu(subject.plan_precision)) if subject.plan else list(DEFAULT)
    if not subject.plan and subject.precision != "fp32":
        names = [name for name in names if ":" not in name]
    if subject.int8:
        names += ["onnxruntime:int8", "openvino:int8"]
    if not subject.checkpoint:
        names = [name for name in names if not name.startswith("torch")]
        not_run["torch"] = "it runs the checkpoint, and none was given (--checkpoint)"
    if not subject.model:
        names = [name for name in names if not name.startswith("onnxruntime")]
        not_run["onnxruntime"] = "it runs the exported model, and none was given (--model)"
    return names


def _steps(cases: Sequence[Case], rounds: int, input: str | None) -> int:
    """Turns, for the progress bar; the two floors take turns, too."""
    on_gpu = sum(case.gpu for case in cases)
    alone = len(cases) - on_gpu + 1 if on_gpu < len(cases) else 0
    return rounds * (alone + (2 * on_gpu + 1 if on_gpu else 0) + len(cases) * (2 if input else 1))


def _floor(rates: list[Rate]) -> dict[str, FloorRate]:
    return {
        precision: FloorRate(rate.flops_per_s, rate.backend, rate.kernel) for precision, rate in best(rates).items()
    }


def _gpu_floor(measured: Measured) -> GpuFloorRates:
    copies = measured.gpu_copies
    return GpuFloorRates(_floor(measured.gpu_rates), {name: max(found[name] for found in copies) for name in copies[0]})


def _one_thread(
    alone: figures.Answers, on_cpu: list[Case], case: Case, subject: Subject, floor: dict[str, FloorRate]
) -> OneThread | None:
    if case not in on_cpu:
        return None
    return figures.one_thread(alone, on_cpu.index(case), subject.flops, floor.get(case.precision))


def _on_gpu(measured: Measured, case: Case, subject: Subject, floor: GpuFloorRates | None) -> OnGpu | None:
    if not case.gpu:
        return None
    index = measured.on_gpu.index(case)
    rate = floor.rates.get(case.precision) if floor else None
    return figures.on_gpu(measured.gpu_passes, measured.gpu_streams, index, subject.flops, rate)


def _machine(measured: Measured) -> dict[str, Any]:
    found = describe_machine().to_dict()
    return {**found, "gpu": asdict(describe_gpu())} if measured.on_gpu else found
