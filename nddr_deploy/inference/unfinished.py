"""An output file that takes its name only when it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nddr_deploy.errors import OutputError
from nddr_deploy.files import finished_file


class _Discarded(Exception):
    """Makes `finished_file` throw the temporary file away."""


class UnfinishedFile:
    """`files.finished_file` for outputs that stay open over many calls.

    Args:
        path: the final name; its folder must exist.

    Attributes:
        temporary: where to write.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._manager = finished_file(path)
        self.temporary: Path = self._manager.__enter__()
        self._open = True

    def finish(self) -> None:
        """Give the file its name."""
        if self._open:
            self._open = False
            self._manager.__exit__(None, None, None)

    def discard(self) -> None:
        """Throw the file away. May follow `finish`, which it does not undo."""
        if self._open:
            self._open = False
            error = _Discarded()
            self._manager.__exit__(_Discarded, error, None)


@contextmanager
def told_as_output(path: Path, *failures: type[Exception]) -> Iterator[None]:
    """Turn the operating system's failures to write `path`, and further ones, into one sentence."""
    told: tuple[type[Exception], ...] = (OSError, *failures)
    try:
        yield
    except told as error:
        raise OutputError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}.") from error
