"""One run that compares runtimes on one model: interleaved, every case in a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nddr_deploy.benchmark import figures
from nddr_deploy.benchmark.cases import DEFAULT, Case, installed_versions, parse_cases
from nddr_deploy.benchmark.floor import best
from nddr_deploy.benchmark.progress import Progress
from nddr_deploy.benchmark.report import BenchmarkReport, FloorRate, Row
from nddr_deploy.benchmark.turns import Turns
from nddr_deploy.engines.machine import default_threads, describe_machine
from nddr_deploy.engines.onnx_file import OnnxFile
from nddr_deploy.errors import ConfigError
from nddr_deploy.graph.flops import count_flops
from nddr_deploy.graph.metadata import read_model
from nddr_deploy.manifest import Manifest


def run_benchmark(
    engine: str | os.PathLike[str],
    *,
    against: Sequence[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    input: str | None = None,
    rounds: int = 5,
    seconds_per_case: float = 15.0,
    frames: int = 24,
    threads: int | None = None,
    progress: bool = False,
) -> BenchmarkReport:
    """Measure an exported model in several runtimes, and end to end on real input.

    Cases take turns (A B C, A B C, ...), so that whatever slows the machine slows all of them, and are compared within
    a round. Two sections: on one thread by processor time, which other work on the machine hardly changes, and on all
    cores by the clock. Each case first runs twice unmeasured, and once more at the start of each round.

    >>> run_benchmark("model.onnx", checkpoint="ckpt.pt", against=["torch", "openvino:bf16"])       # doctest: +SKIP

    Args:
        engine: the exported model (`.onnx`).
        against: cases, `RUNTIME` or `RUNTIME:PRECISION`; the others are compared with the first. None is
            `cases.DEFAULT` without what this machine or the missing checkpoint rules out, which the report names.
        checkpoint: what the model was exported from; the torch cases run it.
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
    path = Path(engine)
    if path.suffix.lower() != ".onnx":
        raise ConfigError(f"{path}: nddr-bench measures an exported model (.onnx). Give a checkpoint as --checkpoint.")
    file = OnnxFile.read(path)
    flops = count_flops(read_model(path), file.manifest.size_hw, batch=file.manifest.batch)
    not_run: dict[str, str] = {}
    cases = choose_cases(against, path, Path(checkpoint) if checkpoint else None, file.precision, not_run)
    cores = threads or default_threads()
    steps = (len(cases) + 1) * rounds + len(cases) * rounds * (2 if input else 1)
    with Progress(steps if progress and sys.stderr.isatty() else None) as shown:
        turns = Turns(file.manifest, rounds, seconds_per_case / rounds, shown, not_run, strict=against is not None)
        cases, alone, rates = turns.one_thread(cases)
        measured = turns.all_cores(cases, cores, input, frames)
    floor = {
        precision: FloorRate(rate.flops_per_s, rate.backend, rate.kernel) for precision, rate in best(rates).items()
    }
    batch = file.manifest.batch
    rows = [
        Row(
            label=case.label,
            backend=case.backend,
            precision=case.precision,
            one_thread=figures.one_thread(alone, index, flops, floor.get(case.precision)),
            all_cores=figures.all_cores(measured.passes, index, batch),
            memory_bytes=measured.memory_bytes[index],
            difference=figures.difference(measured.outputs[0], measured.outputs[index]),
            end_to_end=figures.end_to_end(measured.streams, index) if input else None,
        )
        for index, case in enumerate(cases)
    ]
    return BenchmarkReport(
        model=_describe(path, file.manifest, flops),
        machine=describe_machine().to_dict(),
        versions=installed_versions(),
        rounds=rounds,
        seconds_per_case=seconds_per_case,
        threads=cores,
        rows=tuple(rows),
        floor=floor,
        not_run=not_run,
        input=Path(input).name if input else None,
    )


def choose_cases(
    against: Sequence[str] | None, path: Path, checkpoint: Path | None, precision: str, not_run: dict[str, str]
) -> list[Case]:
    """Those that were asked for, or the usual ones; what has to be left out of these is added to `not_run`."""
    if against is not None:
        return parse_cases(against, model=path, checkpoint=checkpoint, precision=precision)
    names = [name for name in DEFAULT if checkpoint or not name.startswith("torch")]
    if precision != "fp32":
        names = [name for name in names if ":" not in name]
    if not checkpoint:
        not_run["torch"] = "it runs the checkpoint, and none was given (--checkpoint)"
    return parse_cases(names, model=path, checkpoint=checkpoint, precision=precision)


def _describe(path: Path, manifest: Manifest, flops: int) -> dict[str, Any]:
    return {
        "file": path.name,
        "network": manifest.network,
        "tasks": [task.name for task in manifest.tasks],
        "outputs": manifest.outputs,
        "size_hw": list(manifest.size_hw),
        "batch": manifest.batch,
        "flops": flops,
    }
