"""What a run leaves behind while it goes on: tables, a log, TensorBoard's files, a page; and what the screen shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from typing_extensions import Self

from nddr_deploy.evaluate.comparison import Comparison
from nddr_deploy.evaluate.score import Scores
from nddr_deploy.tasks.base import Task
from nddr_deploy.training.board import Board
from nddr_deploy.training.log import Log
from nddr_deploy.training.rows import Rows
from nddr_deploy.training.showcase import Showcase, strip
from nddr_deploy.training.summary import Summary, clock_text

LINE_EVERY_S = 10.0  # where there is no terminal for a progress bar, and in log.txt
COUPLING = ("step", "layer", "task", "stream", "share")


class Record:
    """One row of metrics.csv per log interval and per validation; the same numbers for TensorBoard and the screen.

    With a showcase, coupling.csv gets rows at each log interval, and each validation its pictures. What of this fails
    is said, and left out: a training never ends for it.

    Args:
        folder: of the run.
        tasks: that are trained; they name the columns.
        steps: of the whole training.
        first: steps that are done already.
        tensorboard: write `folder/tensorboard`.
        console: where progress goes.
        silent: write and show nothing: another process does.
        showcase, summary: None makes no pictures and measures no coupling; writes no page.
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
        showcase: Showcase | None = None,
        summary: Summary | None = None,
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
        self._board: Board | None = None
        self._showcase = showcase
        self._summary = summary
        self._comparisons: tuple[Comparison, ...] = ()
        self._failed: set[str] = set()
        self._recent: list[Mapping[str, float]] = []
        self._began = self._last_line = time.monotonic()
        self._before_s = 0.0

    def __enter__(self) -> Self:
        if self.silent:
            return self
        self._log = Log(self.folder / "log.txt", append=self.first > 0)
        self._metrics = Rows(self.folder / "metrics.csv", self.columns, first=self.first)
        if self._metrics.kept:
            self._before_s = float(self._metrics.kept[-1]["seconds"])
        self._coupling = Rows(self.folder / "coupling.csv", COUPLING, first=self.first) if self._showcase else None
        if self._tensorboard:
            self._board = Board(self.folder / "tensorboard", first=self.first)
        self._bar: Progress | None = None
        if self.console.is_terminal:
            form = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Progress(*form, TextColumn("{task.description}"), console=self.console)
            self._bar.add_task("", total=self.steps, completed=self.first)
            self._bar.start()
        return self

    def begin(self, sentence: str) -> None:
        """Say what begins, and note where it begins."""
        self.say(sentence)
        if self.silent:
            return
        if self._coupling is not None and not self._coupling.kept:
            self._note_coupling(self.first)
        if self.first > 0:  # the board has these pictures already
            self._look(self.first, None)

    def say(self, sentence: str) -> None:
        """One sentence for the screen and for log.txt."""
        if not self.silent:
            self.console.print(sentence, soft_wrap=True, highlight=False, markup=False)
            self._log.add(sentence)

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
        """Write a row with the means of the steps since the row before, and what tasks take from streams now.

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
        self._note_coupling(step)
        self._show(step, losses)

    def validation(self, step: int, scores: Scores, *, best: bool) -> None:
        """The metrics of a validation, as a row and on the screen; pictures and page with them."""
        if self.silent:
            return
        self._row(
            step, {f"val/{task}/{name}": value for task, found in scores.items() for name, value in found.items()}
        )
        self.say(f"validation after step {step}" + (", the best so far" if best else ""))
        for task, metrics in scores.items():
            self.say(f"  {task}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
        self._look(step, self._board)

    def _show(self, step: int, losses: Mapping[str, float]) -> None:
        text = ", ".join(f"{name} {value:.4g}" for name, value in losses.items() if name != "penalty" or value)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text)
        now = time.monotonic()
        if now - self._last_line >= LINE_EVERY_S or step == self.steps:
            self._last_line = now
            left = (now - self._began) / max(step - self.first, 1) * (self.steps - step)
            line = f"step {step}/{self.steps}: {text}; {clock_text(left)} left"
            self.say(line) if self._bar is None else self._log.add(line)

    def _row(self, step: int, values: Mapping[str, float]) -> None:
        seconds = f"{self._before_s + time.monotonic() - self._began:.1f}"
        self._metrics.add(
            [{"step": step, "seconds": seconds, **{name: f"{value:.6g}" for name, value in values.items()}}]
        )
        if self._board is not None:
            self._board.numbers(step, values)

    def _note_coupling(self, step: int) -> None:
        showcase, rows = self._showcase, self._coupling
        if showcase is None or rows is None:
            return

        def note() -> None:
            shares = showcase.coupling()
            rows.add(
                {"step": step, "layer": s.layer, "task": s.task, "stream": s.stream, "share": f"{s.share:.6g}"}
                for s in shares
            )
            if self._board is not None:
                named = {f"coupling/{each.layer}/{each.task}/{each.stream}": each.share for each in shares}
                self._board.numbers(step, named)

        self._attempt("coupling.csv", note)

    def _look(self, step: int, board: Board | None) -> None:
        """Draw the showcase's samples, and write the page."""
        showcase = self._showcase
        if showcase is not None:

            def draw() -> None:
                self._comparisons = showcase.comparisons()
                if board is not None:
                    for number, each in enumerate(self._comparisons):
                        board.picture(step, f"samples/{number}", strip(each))

            self._attempt("Pictures of validation samples", draw)
        self._write_summary()

    def _write_summary(self, ended: str = "") -> None:
        summary = self._summary
        if summary is not None:
            self._attempt("summary.html", lambda: summary.write(self._comparisons, ended))

    def _attempt(self, what: str, work: Callable[[], None]) -> None:
        """Do what a training can do without; an error of it is said once."""
        try:
            work()
        except Exception as error:
            sentence = f"{what} failed ({type(error).__name__}: {error}); the training goes on without."
            if sentence not in self._failed:
                self._failed.add(sentence)
                self.say(sentence)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.silent:
            return
        if self._bar is not None:
            self._bar.stop()
        ended = "" if error is None else "It was stopped." if isinstance(error, KeyboardInterrupt) else str(error)
        if error is not None and not isinstance(error, KeyboardInterrupt):
            self._log.add(f"{type(error).__name__}: {error}")
        self._write_summary(ended)
        if self._board is not None:
            self._board.close()
        if self._coupling is not None:
            self._coupling.close()
        self._metrics.close()
        self._log.close()
