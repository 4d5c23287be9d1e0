"""What a build shows while it runs: one bar for the step, one for TensorRT's own phases; nothing where nobody looks."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from typing_extensions import Self

from nddr_deploy.engines.trt_progress import BuildProgress

if TYPE_CHECKING:
    from rich.progress import TaskID


class Shown:
    """Bars on stderr.

    Args:
        wanted: False, or no terminal, shows nothing.

    Attributes:
        build: for `build_plan`.
    """

    def __init__(self, wanted: bool) -> None:
        self.build = BuildProgress(self._told)
        self._bar = None
        self._phases: dict[str, TaskID] = {}
        if wanted and sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            columns = (
                progress.SpinnerColumn(),
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.TimeElapsedColumn(),
            )
            self._bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
            self._step = self._bar.add_task("", total=None)

    def say(self, text: str) -> None:
        if self._bar:
            self._bar.update(self._step, description=text)

    def _told(self, phase: str, step: int, steps: int) -> None:
        if not self._bar:
            return
        if phase not in self._phases:
            self._phases[phase] = self._bar.add_task(f"  {phase}", total=steps or None)
        number = self._phases[phase]
        self._bar.update(number, completed=step, total=steps or None, visible=step < steps)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
