"""Processes that take turns: A B C, A B C, ..."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from nddr_deploy.benchmark.cases import Case
from nddr_deploy.benchmark.figures import Answers
from nddr_deploy.benchmark.floor import Rate
from nddr_deploy.benchmark.process import Worker
from nddr_deploy.benchmark.progress import Progress
from nddr_deploy.errors import NddrError, UnsupportedError
from nddr_deploy.manifest import Manifest


class Measured:
    """What the section on all cores and the GPU brought, by case.

    Attributes:
        cases: that ran, in their order; `on_gpu` are those among them that did so on a GPU.
        passes, streams: by the clock, one by one; from end to end, where there is an input.
        memory_bytes, outputs: one entry a case.
        gpu_passes, gpu_streams: of `on_gpu`: as the engine splits them, and overlapping.
        gpu_rates, gpu_copies: of the floor: every measurement.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = list(cases)
        self.on_gpu = [case for case in cases if case.gpu]
        self.passes: Answers = []
        self.streams: Answers = []
        self.memory_bytes: list[int] = []
        self.outputs: list[dict[str, Any]] = []
        self.gpu_passes: Answers = []
        self.gpu_streams: Answers = []
        self.gpu_rates: list[Rate] = []
        self.gpu_copies: list[dict[str, float]] = []


class Turns:
    """The two sections, one after the other; in each, one process per case, taking turns.

    Args:
        manifest: of the measured model.
        rounds: how often the cases take turns.
        seconds: of measuring, per case, section and round.
        progress: told about every step.
        not_run: case -> why it could not run, added to.
        strict: a case that cannot run is an error.
    """

    def __init__(
        self,
        manifest: Manifest,
        rounds: int,
        seconds: float,
        progress: Progress,
        not_run: dict[str, str],
        *,
        strict: bool,
    ) -> None:
        self._manifest = manifest
        self._rounds = rounds
        self._seconds = seconds
        self._progress = progress
        self._not_run = not_run
        self._strict = strict

    def one_thread(self, cases: Sequence[Case]) -> tuple[list[Case], Answers, list[Rate]]:
        """The cases on a CPU that can run here, their passes, and the rates of the floor's kernels."""
        with ExitStack() as stack:
            able, workers = self._open(stack, cases, threads=1)
            if not able:
                return [], [], []
            self._progress.say("loading the kernels of the machine's floor")
            floor = stack.enter_context(Worker("floor", threads=1))
            for kernel, reason in floor.ask("open_floor", threads=1)["not_run"].items():
                self._not_run[f"floor of {kernel}"] = reason
            rates: list[Rate] = []

            def measure_floor() -> dict[str, Any]:
                rates.extend(Rate(**rate) for rate in floor.ask("measure_floor")["rates"])
                return {}

            turns = [_order(worker, "measure", seconds=self._seconds) for worker in workers]
            named = list(zip([case.label for case in able], turns, strict=True))
            answers = self._take_turns("one thread", [*named, ("floor", measure_floor)])
            return able, answers[: len(able)], rates

    def together(self, cases: Sequence[Case], cores: int, input: str | None, frames: int) -> Measured:
        """All cases on all cores, and those on a GPU there."""
        with ExitStack() as stack:
            able, workers = self._open(stack, cases, threads=cores)
            if not able:
                reasons = " ".join(f"{name}: {reason}" for name, reason in self._not_run.items())
                raise UnsupportedError(f"No case can run on this machine. {reasons}")
            measured = Measured(able)
            named = [(case.label, worker) for case, worker in zip(able, workers, strict=True)]
            on_gpu = [pair for case, pair in zip(able, named, strict=True) if case.gpu]
            if on_gpu:
                self._measure_gpu(stack, on_gpu, measured)
            measured.passes = self._ask_all("all cores", named, "measure", seconds=self._seconds)
            measured.memory_bytes = [worker.ask("memory")["bytes"] for worker in workers]
            measured.outputs = [_outputs(worker) for worker in workers]
            if input:
                measured.streams = self._ask_all("end to end", named, "stream", input=input, frames=frames)
        return measured

    def judged(
        self, cases: Sequence[Case], cores: int, judge: Callable[[Case, Worker], None]
    ) -> tuple[list[Case], Answers]:
        """Those that can run, and their passes on all cores by the clock, as in `together`, after each was judged.

        Args:
            judge: given the process that is then measured; a case for which it raises an NddrError is not run.
        """
        with ExitStack() as stack:
            able, named = [], []
            for case, worker in zip(*self._open(stack, cases, threads=cores), strict=True):
                self._progress.say(f"judging {case.label}")
                try:
                    judge(case, worker)
                except NddrError as error:
                    if self._strict:
                        raise
                    worker.close()
                    self._not_run[case.label] = str(error)
                    continue
                able.append(case)
                named.append((case.label, worker))
            return able, self._ask_all("all cores", named, "measure", seconds=self._seconds)

    def _measure_gpu(self, stack: ExitStack, named: Sequence[tuple[str, Worker]], measured: Measured) -> None:
        turns = [(name, _order(worker, "measure_gpu", seconds=self._seconds)) for name, worker in named]
        self._progress.say("loading the kernels of the GPU's floor")
        floor = stack.enter_context(Worker("floor of the GPU", threads=1))
        try:
            for precision, reason in floor.ask("open_gpu_floor")["not_run"].items():
                self._not_run[f"floor of the GPU in {precision}"] = reason
            turns.append(("floor of the GPU", _order(floor, "measure_gpu_floor")))
        except NddrError as error:  # it needs PyTorch, the measured engines do not
            self._not_run["floor of the GPU"] = str(error)
        answers = self._take_turns("GPU", turns)
        measured.gpu_passes = answers[: len(named)]
        for answer in (round_ for rounds in answers[len(named) :] for round_ in rounds):
            measured.gpu_rates += [Rate(**rate) for rate in answer["rates"]]
            measured.gpu_copies.append(answer["copies"])
        floor.close()  # its memory is the measured engines'
        measured.gpu_streams = self._ask_all("streamed", named, "measure_stream", seconds=self._seconds)

    def _open(self, stack: ExitStack, cases: Sequence[Case], *, threads: int) -> tuple[list[Case], list[Worker]]:
        able, workers = [], []
        for case in cases:
            self._progress.say(f"loading {case.label}, {threads} thread{'s' if threads > 1 else ''}")
            worker = stack.enter_context(Worker(case.label, threads=threads, environment=case.environment))
            try:
                worker.ask(
                    "open",
                    path=str(case.path),
                    backend=case.backend,
                    threads=threads,
                    precision=case.precision,
                    compiled=case.compiled,
                    manifest=self._manifest.to_json(),
                )
            except NddrError as error:
                if self._strict:
                    raise
                worker.close()
                self._not_run[case.label] = str(error)
                continue
            able.append(case)
            workers.append(worker)
        return able, workers

    def _ask_all(self, section: str, named: Sequence[tuple[str, Worker]], order: str, **values: Any) -> Answers:
        return self._take_turns(section, [(name, _order(worker, order, **values)) for name, worker in named])

    def _take_turns(self, section: str, turns: Sequence[tuple[str, Callable[[], dict[str, Any]]]]) -> Answers:
        answers: Answers = [[] for _ in turns]
        for round_ in range(self._rounds):
            for (name, turn), found in zip(turns, answers, strict=True):
                self._progress.say(f"{section}, round {round_ + 1} of {self._rounds}: {name}")
                found.append(turn())
                self._progress.advance()
        return answers


def _order(worker: Worker, order: str, **values: Any) -> Callable[[], dict[str, Any]]:
    return lambda: worker.ask(order, **values)


def _outputs(worker: Worker) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "outputs.npz")
        worker.ask("outputs", file=str(file))
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
