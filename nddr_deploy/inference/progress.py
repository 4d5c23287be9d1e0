"""A progress bar on a terminal, and nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nddr_deploy.inference.base import SourceInfo


@contextmanager
def progress_bar(*, quiet: bool, limit: int | None) -> Iterator[Callable[[SourceInfo, int], None] | None]:
    """Yields what `infer` calls with the source at work and the frames done; None where there is nobody to watch."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown: dict[str, TaskID] = {}

        def watch(info: SourceInfo, frames: int) -> None:
            if info.name not in shown:
                name = info.name.rsplit("/", 1)[-1]
                shown[info.name] = bar.add_task(name, total=expected_frames(info, limit), rate="")
            number = shown[info.name]
            elapsed = bar.tasks[number].elapsed or 0.0
            rate = f"{frames / elapsed:.1f} fps" if elapsed > 0 and frames else ""
            bar.update(shown[info.name], completed=frames, rate=rate)

        yield watch


def expected_frames(info: SourceInfo, limit: int | None) -> int | None:
    """How many frames will come: known, estimated from length and rate, or None."""
    expected = info.frames
    if expected is None and info.duration_s is not None and info.rate is not None:
        expected = round(info.duration_s * info.rate)
    if expected is None or limit is None:
        return expected or limit
    return min(expected, limit)
