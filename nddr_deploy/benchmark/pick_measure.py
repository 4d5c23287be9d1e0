"""The cases of a pick, a process each: first all samples are judged, then passes are timed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from nddr_deploy.benchmark.cases import Case
from nddr_deploy.benchmark.pick_choice import Judged
from nddr_deploy.benchmark.pick_data import Judge
from nddr_deploy.benchmark.pick_files import Contenders
from nddr_deploy.benchmark.process import Worker
from nddr_deploy.benchmark.progress import Progress
from nddr_deploy.benchmark.turns import Turns
from nddr_deploy.errors import UnsupportedError
from nddr_deploy.evaluate.parity import Model
from nddr_deploy.evaluate.sample_scores import SampleScores, compare
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

REFERENCE = "onnxruntime"
Clock = Literal["wall", "processor"]
CLOCKS: Mapping[Clock, str] = {"wall": "wall_s", "processor": "cpu_s"}  # as `timing.Passes` names them


def measure(
    contenders: Contenders, judge: Judge, before: SampleScores, turns: Turns, cores: int, progress: Progress
) -> tuple[list[Judged], Clock]:
    """Every case that ran, in the order of the contenders, and by which clock it was timed.

    Args:
        before: what the FP32 model achieves in the runtime `REFERENCE`; that case is not judged again.
        turns: that the cases take.
        cores: threads of a pass.
        progress: told after each sample.

    Raises:
        UnsupportedError: none can run.
    """
    scores: dict[Case, SampleScores] = {}
    tasks = judge.evaluation.tasks

    def is_reference(case: Case) -> bool:
        return (case.backend, case.path) == (REFERENCE, contenders.subject.path)

    def score(case: Case, worker: Worker) -> None:
        if is_reference(case):
            scores[case] = before
            return
        with tempfile.TemporaryDirectory() as folder:
            infer = asked(worker, Path(folder))
            scores[case] = judge.evaluation.score(infer, progress=lambda count: progress.advance())

    cases, answers = turns.judged(contenders.cases, cores, score)
    if not cases:
        reasons = " ".join(f"{name}: {reason}" for name, reason in contenders.not_run.items())
        raise UnsupportedError(f"No case can run on this machine. {reasons}")
    clock = clock_of(cases, cores)
    times = [[round_[CLOCKS[clock]] for round_ in found] for found in answers]
    judged = []
    for case, found in zip(cases, times, strict=True):
        changes = compare(before, scores[case], tasks)
        judged.append(
            Judged.of(case, found, times[0], changes, judge.budgets, sure=judge.sure, reference=is_reference(case))
        )
    return judged, clock


def asked(worker: Worker, folder: Path) -> Model:
    """The engine that a worker has open, as a function; images and outputs go through files in `folder`."""
    images_file, outputs_file = folder / "images.npy", folder / "outputs.npz"

    def infer(images: Image) -> Mapping[str, Array]:
        np.save(images_file, images)
        worker.ask("infer", images=str(images_file), outputs=str(outputs_file))
        with np.load(outputs_file, allow_pickle=False) as arrays:
            return dict(arrays)

    return infer


def clock_of(cases: Sequence[Case], threads: int) -> Clock:
    """On one thread of a CPU the process's own time, which other work on the machine hardly changes; else the clock."""
    return "processor" if threads == 1 and not any(case.gpu for case in cases) else "wall"
