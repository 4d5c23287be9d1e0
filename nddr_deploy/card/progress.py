"""A bar on stderr for what takes longer than a moment; nothing where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def shown(wanted: bool, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields what is told of each step, with how many steps it was.

    Args:
        wanted: False, or no terminal, shows nothing.
        what: a word or two before the bar.
        total: steps.
    """
    if not wanted or not sys.stderr.isatty():
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)
