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
    """What the section on all cores brought, by case."""

    def __init__(self) -> None:
        self.passes: Answers = []
        self.streams: Answers = []
        self.memory_bytes: list[int] = []
        self.outputs: list[dict[str, Any]] = []


class Turns:
    """The two sections, one after the other; in each, one process per case, taking turns."""

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
        """The cases that can run here, their passes, and the rates of the floor's kernels."""
        with ExitStack() as stack:
            able, workers = self._open(stack, cases, threads=1, strict=self._strict)
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

    def all_cores(self, cases: Sequence[Case], cores: int, input: str | None, frames: int) -> Measured:
        measured = Measured()
        with ExitStack() as stack:
            _, workers = self._open(stack, cases, threads=cores, strict=True)  # they have run before
            names = [case.label for case in cases]
            turns = [_order(worker, "measure", seconds=self._seconds) for worker in workers]
            measured.passes = self._take_turns("all cores", list(zip(names, turns, strict=True)))
            measured.memory_bytes = [worker.ask("memory")["bytes"] for worker in workers]
            measured.outputs = [_outputs(worker) for worker in workers]
            if input:
                turns = [_order(worker, "stream", input=input, frames=frames) for worker in workers]
                measured.streams = self._take_turns("end to end", list(zip(names, turns, strict=True)))
        return measured

    def _open(
        self, stack: ExitStack, cases: Sequence[Case], *, threads: int, strict: bool
    ) -> tuple[list[Case], list[Worker]]:
        able, workers = [], []
        for case in cases:
            self._progress.say(f"loading {case.label}, {threads} thread{'s' if threads > 1 else ''}")
            worker = stack.enter_context(Worker(case.label, threads=threads))
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
                if strict:
                    raise
                worker.close()
                self._not_run[case.label] = str(error)
                continue
            able.append(case)
            workers.append(worker)
        if not able:
            reasons = " ".join(f"{name}: {reason}" for name, reason in self._not_run.items())
            raise UnsupportedError(f"No case can run on this machine. {reasons}")
        return able, workers

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
