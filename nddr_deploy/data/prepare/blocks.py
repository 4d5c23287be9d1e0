"""One look at each of many files: block by block, by all cores, in order, with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nddr_deploy.progress import progress_bar

Seen = TypeVar("Seen")
BLOCK = 256  # names: Ctrl-C waits for so many


def looked_at(
    look: Callable[[str], Seen], names: Sequence[str], *, done: int = 0, what: str, show_progress: bool
) -> Iterator[list[tuple[str, Seen]]]:
    """Blocks of names, each with what `look` says of it.

    Args:
        look: is called in several threads: decoding pictures leaves Python to them.
        names: of what to look at, in order.
        done: how many more were looked at in an earlier run: the bar begins there.
        what: stands before the bar.
        show_progress: draw it, where stderr is a terminal.
    """
    with (
        progress_bar(what, done + len(names), shown=show_progress) as advance,
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads,
    ):
        advance(done)
        for start in range(0, len(names), BLOCK):
            block = names[start : start + BLOCK]
            yield list(zip(block, threads.map(look, block), strict=True))
            advance(len(block))
