"""Engines and their peers in alternating rounds, one process each, under the interpreter that has their library."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpu_steps.build import MAIN, VARIANTS
from gpu_steps.work import Work
from nddr_deploy.benchmark import figures
from nddr_deploy.benchmark.cases import Case
from nddr_deploy.benchmark.figures import Answers
from nddr_deploy.benchmark.process import Worker
from nddr_deploy.benchmark.report import FloorRate
from nddr_deploy.benchmark.timing import ratios
from nddr_deploy.engines.machine import default_threads
from nddr_deploy.errors import NddrError, UnsupportedError
from nddr_deploy.graph.metadata import read_manifest

COMPILE = "torch.compile fp16"
KINDS = ("measure_gpu", "measure_stream", "measure")  # as the engine splits a pass; overlapping; one by one


@dataclass(frozen=True)
class Contender:
    """One row.

    Attributes:
        name: for people, unique.
        case: what its worker opens.
        python: the interpreter of its worker.
    """

    name: str
    case: Case
    python: str


def peers(work: Work, network: str) -> list[Contender]:
    """PyTorch and ONNX Runtime, decoding on the GPU as our engines do."""
    checkpoint, decoded = work.path(network, "ckpt.pt"), work.path(network, "decoded.onnx")
    half = work.path(network, "typed.fp16.10.decoded.onnx")
    cases = {
        "torch eager fp16": Case("", "torch-cuda", "fp16", compiled=False, path=checkpoint),
        COMPILE: Case("", "torch-cuda", "fp16", compiled=True, path=checkpoint),
        "onnxruntime CUDA fp16": Case("", "onnxruntime-cuda", "fp16", compiled=False, path=half),
        "onnxruntime CUDA fp32": Case("", "onnxruntime-cuda", "fp32", compiled=False, path=decoded),
        "onnxruntime TensorRT fp16": Case("", "onnxruntime-tensorrt", "fp16", compiled=False, path=decoded),
    }
    return [Contender(name, case, work.settings.python_torch) for name, case in cases.items()]


def engines(work: Work, network: str, variants: Sequence[str]) -> list[Contender]:
    """Those of our engines that were built."""
    return [
        Contender(
            f"tensorrt {variant}",
            Case(
                "", "tensorrt", VARIANTS[variant].precision, compiled=False, path=work.path(network, f"{variant}.trt")
            ),
            work.settings.python_trt,
        )
        for variant in variants
        if work.result(f"build.{network}.{variant}") is not None
    ]


def run_compile(work: Work, network: str) -> tuple[dict[str, Any], list[Path]]:
    """Let torch.compile choose its kernels, which takes minutes, once: it keeps them in the folder of the run."""
    [compiled] = [contender for contender in peers(work, network) if contender.name == COMPILE]
    with ExitStack() as stack:
        _open(stack, work, network, compiled)
    return {}, []


def run(work: Work, network: str) -> tuple[dict[str, Any], list[Path]]:
    """Our engines in every precision, and all peers."""
    return measure(work, network, peers(work, network) + engines(work, network, list(MAIN))), []


def run_variants(work: Work, network: str) -> tuple[dict[str, Any], list[Path]]:
    """Our FP16 engines with more or fewer streams, and with merged convolutions."""
    wanted = [name for name, variant in VARIANTS.items() if variant.precision == "fp16"]
    return measure(work, network, engines(work, network, wanted)), []


def measure(work: Work, network: str, contenders: Sequence[Contender]) -> dict[str, Any]:
    """Rows by name, and how many times faster each is than each other one, compared within rounds.

    Raises:
        UnsupportedError: none of them runs here.
    """
    not_run: dict[str, str] = {}
    able: list[Contender] = []
    workers: list[Worker] = []
    answers: dict[str, Answers] = {}
    with ExitStack() as stack:
        for contender in contenders:
            try:
                workers.append(_open(stack, work, network, contender))
                able.append(contender)
            except NddrError as error:
                not_run[contender.name] = str(error)
        if not able:
            reasons = " ".join(f"{name}: {reason}" for name, reason in not_run.items())
            raise UnsupportedError(f"Nothing of {network} can be measured here. {reasons}")
        for kind in KINDS:
            answers[kind] = [[] for _ in able]
            for _ in range(work.settings.rounds):
                for worker, found in zip(workers, answers[kind], strict=True):
                    found.append(worker.ask(kind, seconds=work.settings.seconds))
    flops = (work.result(f"export.{network}") or {}).get("flops")
    rows = {}
    for index, contender in enumerate(able):
        floor = floor_of(work, contender.case.precision)
        gpu = figures.on_gpu(answers["measure_gpu"], answers["measure_stream"], index, flops, floor)
        alone = figures.all_cores(answers["measure"], index, 1)
        rows[contender.name] = {"precision": contender.case.precision, "gpu": asdict(gpu), "infer": asdict(alone)}
    return {"rows": rows, "not_run": not_run, "speedups": speedups([c.name for c in able], answers)}


def speedups(names: Sequence[str], answers: dict[str, Answers]) -> dict[str, Any]:
    """ "A over B" -> kind of time -> the ratio of each round's medians: how many times faster A is."""
    per_image = [[[stream["wall_s"] / stream["images"]] for stream in case] for case in answers["measure_stream"]]
    times = {
        "compute": [[found["compute_s"] for found in case] for case in answers["measure_gpu"]],
        "one by one": [[found["wall_s"] for found in case] for case in answers["measure"]],
        "streamed": per_image,
    }
    return {
        f"{fast} over {slow}": {kind: asdict(ratios(case[there], case[here])) for kind, case in times.items()}
        for here, fast in enumerate(names)
        for there, slow in enumerate(names)
        if here != there
    }


def floor_of(work: Work, precision: str) -> FloorRate | None:
    """The fastest matrix product of that precision on this GPU; None where it was not measured."""
    rate = ((work.result("floor") or {}).get("rates") or {}).get(precision)
    return FloorRate(rate["flops_per_s"], rate["backend"], rate["kernel"]) if rate else None


def _open(stack: ExitStack, work: Work, network: str, contender: Contender) -> Worker:
    """Its process, with its model loaded and run twice."""
    case, threads = contender.case, default_threads()
    worker = Worker(contender.name, threads=threads, environment=case.environment, python=contender.python)
    stack.callback(worker.close)
    try:
        worker.ask(
            "open",
            path=str(case.path.resolve()),
            backend=case.backend,
            threads=threads,
            precision=case.precision,
            compiled=case.compiled,
            manifest=read_manifest(work.path(network, "decoded.onnx")).to_json(),
        )
    except NddrError:
        worker.close()
        raise
    return worker
