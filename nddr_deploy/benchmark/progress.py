"""What a long measurement shows while it runs: nothing where nobody looks."""

from __future__ import annotations

from types import TracebackType

from typing_extensions import Self


class Progress:
    """A bar on stderr that also says what is being done.

    Args:
        steps: how many there are; None shows nothing.
    """

    def __init__(self, steps: int | None) -> None:
        self._bar = None
        if steps is not None:
            from rich import progress
            from rich.console import Console

            columns = (progress.BarColumn(), progress.MofNCompleteColumn(), progress.TextColumn("{task.description}"))
            self._bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
            self._step = self._bar.add_task("", total=steps)

    def say(self, text: str) -> None:
        if self._bar:
            self._bar.update(self._step, description=text)

    def advance(self) -> None:
        if self._bar:
            self._bar.advance(self._step)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
