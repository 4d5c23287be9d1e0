"""log.txt: what a training said, line by line, with the time."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path


class Log:
    """A text file that every sentence is added to.

    Args:
        path: of the file.
        append: go on with the file that is there, as a resumed training does.
    """

    def __init__(self, path: Path, *, append: bool) -> None:
        self._file = open(path, "a" if append else "w", encoding="utf-8")  # noqa: SIM115 - until `close`

    def add(self, sentence: str) -> None:
        """Write `2026-11-23 07:16:05Z  sentence`."""
        time = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
        self._file.writelines(f"{time}  {line}\n" for line in sentence.splitlines())
        self._file.flush()

    def close(self) -> None:
        self._file.close()
