"""Tables that grow while a training goes on: metrics.csv and coupling.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nddr_deploy.files import finished_file


class Rows:
    """A CSV file with a column "step". A resumed run drops the rows after its first step, so no step is there twice.

    Args:
        path: of the file; it is made, or taken over.
        columns: their names, in order.
        first: steps that are done already.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, first: int) -> None:
        self.kept = read_rows(path, until=first)
        with finished_file(path) as new, open(new, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.kept)
        self._file = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115 - until `close`
        self._writer = csv.DictWriter(self._file, columns)

    def add(self, rows: Iterable[Mapping[str, str | int]]) -> None:
        """Write some, at once; a column that is not named stays empty."""
        self._writer.writerows(rows)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_rows(path: Path, *, until: int | None = None) -> list[dict[str, str]]:
    """The rows up to a step, or all; a last row that was cut off by a crash is left out."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values() and row["step"].isdigit()]
    return rows if until is None else [row for row in rows if int(row["step"]) <= until]
