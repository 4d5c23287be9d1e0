"""What a run leaves on record while it goes on: metrics.csv, TensorBoard's files, and what the terminal shows."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from typing_extensions import Self

from nddr_deploy import optional
from nddr_deploy.evaluate.score import Scores
from nddr_deploy.files import finished_file
from nddr_deploy.tasks.base import Task

LINE_EVERY_S = 10.0  # where there is no terminal for a progress bar


class Record:
    """One row of metrics.csv per log interval and per validation; the same numbers for TensorBoard and the screen.

    A resumed run drops the rows after its first step, so no step is there twice.

    Args:
        folder: of the run.
        tasks: that are trained; they name the columns.
        steps: of the whole training.
        first: steps that are done already.
        tensorboard: write `folder/tensorboard`.
        console: where progress goes.
        silent: write and show nothing: another process does.
    """

    def __init__(
        self,
        folder: Path,
        tasks: Sequence[Task],
        *,
        steps: int,
        first: int = 0,
        tensorboard: bool = False,
        console: Console,
        silent: bool = False,
    ) -> None:
        self.folder = folder
        self.steps = steps
        self.first = first
        self.console = console
        self.silent = silent
        self.columns = ["step", "seconds", "lr", "loss", *(f"loss/{task.name}" for task in tasks), "penalty"]
        self.columns += [*(f"factor/{task.name}" for task in tasks), "images_per_s", "waiting_share"]
        self.columns += [f"val/{task.name}/{metric}" for task in tasks for metric in task.metric().result()]
        self._tensorboard = tensorboard
        self._board: Any = None
        self._recent: list[Mapping[str, float]] = []
        self._began = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self.silent:
            return self
        path = self.folder / "metrics.csv"
        kept = read_rows(path, until=self.first)
        with finished_file(path) as new, open(new, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        self._file = open(path, "a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, self.columns)
        if self._tensorboard:
            writer_class = optional.load("torch.utils.tensorboard:SummaryWriter", extra="train")
            self._board = writer_class(str(self.folder / "tensorboard"), purge_step=self.first + 1)
        self._bar: Progress | None = None
        if self.console.is_terminal:
            form = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Progress(*form, TextColumn("{task.description}"), console=self.console)
            self._bar.add_task("", total=self.steps, completed=self.first)
            self._bar.start()
        return self

    def say(self, sentence: str) -> None:
        if not self.silent:
            self.console.print(sentence, soft_wrap=True, highlight=False)

    def train(self, step: int, losses: Mapping[str, float]) -> None:
        """Note one step.

        Args:
            losses: task name -> loss, "loss" for their weighted sum, "penalty".
        """
        if self.silent:
            return
        self._recent.append(losses)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step)

    def row(self, step: int, rate: float, factors: Mapping[str, float], speed: Mapping[str, float]) -> None:
        """Write a row with the means of the steps since the row before.

        Args:
            factors: task name -> what its loss counts after this step.
            speed: "images_per_s" and "waiting_share" since the row before.
        """
        if self.silent:
            return
        losses = {name: sum(row[name] for row in self._recent) / len(self._recent) for name in self._recent[0]}
        self._recent.clear()
        named = {name if name in ("loss", "penalty") else f"loss/{name}": value for name, value in losses.items()}
        factors = {f"factor/{name}": value for name, value in factors.items()}
        self._row(step, {"lr": rate, **named, **factors, **speed})
        self._show(step, losses)

    def _show(self, step: int, losses: Mapping[str, float]) -> None:
        text = ", ".join(f"{name} {value:.4g}" for name, value in losses.items() if name != "penalty" or value)
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text)
        elif now - self._last_line >= LINE_EVERY_S or step == self.steps:
            self._last_line = now
            left = (now - self._began) / max(step - self.first, 1) * (self.steps - step)
            self.say(f"step {step}/{self.steps}: {text}; {_clock(left)} left")

    def validation(self, step: int, scores: Scores, *, best: bool) -> None:
        """The metrics of a validation, as a row and on the screen."""
        if self.silent:
            return
        self._row(
            step, {f"val/{task}/{name}": value for task, found in scores.items() for name, value in found.items()}
        )
        self.say(f"validation after step {step}" + (", the best so far" if best else ""))
        for task, metrics in scores.items():
            self.say(f"  {task}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))

    def _row(self, step: int, values: Mapping[str, float]) -> None:
        seconds = f"{time.monotonic() - self._began:.1f}"
        self._writer.writerow(
            {"step": step, "seconds": seconds, **{name: f"{value:.6g}" for name, value in values.items()}}
        )
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if math.isfinite(value):
                    self._board.add_scalar(name, value, step)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.silent:
            return
        if self._bar is not None:
            self._bar.stop()
        if self._board is not None:
            self._board.close()
        self._file.close()


def read_rows(path: Path, *, until: int) -> list[dict[str, str]]:
    """The rows of metrics.csv up to a step; a last row that was cut off by a crash is left out."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if None not in row.values() and row["step"].isdigit() and int(row["step"]) <= until]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
