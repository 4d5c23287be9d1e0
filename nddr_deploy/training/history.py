"""What the tables of a run say: curves, validations, times. The whole run, however often it was resumed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nddr_deploy.tasks.base import Task
from nddr_deploy.training.rows import read_rows

Points = list[tuple[float, float]]  # (step, value)


@dataclass(frozen=True)
class History:
    """The rows of metrics.csv and of coupling.csv.

    Attributes:
        metrics, coupling: as text, in the order of the files.
        batch_size: images of a step.
    """

    metrics: Sequence[dict[str, str]]
    coupling: Sequence[dict[str, str]]
    batch_size: int

    @classmethod
    def read(cls, folder: Path, batch_size: int) -> History:
        return cls(read_rows(folder / "metrics.csv"), read_rows(folder / "coupling.csv"), batch_size)

    def curve(self, column: str) -> Points:
        """A column of metrics.csv over steps, where it has a value."""
        return _points(self.metrics, column)

    def validations(self, task: Task, metric: str) -> Points:
        return self.curve(f"val/{task.name}/{metric}")

    def best(self, task: Task, metric: str) -> tuple[float, float] | None:
        """The step and the value of the best validation in one metric, the earliest of equals."""
        sign = -1 if task.metrics[metric].higher_is_better else 1
        points = [point for point in self.validations(task, metric) if point[1] == point[1]]
        return min(points, key=lambda point: sign * point[1], default=None)

    def shares(self) -> dict[tuple[str, str, str], Points]:
        """(layer, task, stream) -> share over steps."""
        found: dict[tuple[str, str, str], Points] = {}
        for row in self.coupling:
            point = (float(row["step"]), float(row["share"]))
            found.setdefault((row["layer"], row["task"], row["stream"]), []).append(point)
        return found

    def training_s(self) -> float:
        """Seconds of all steps, without validation and saving."""
        return sum(seconds for seconds, _ in self._intervals())

    def waiting_share(self) -> float:
        """Of these seconds, spent waiting for data."""
        intervals = list(self._intervals())
        total = sum(seconds for seconds, _ in intervals)
        return sum(seconds * share for seconds, share in intervals) / total if total else 0.0

    def _intervals(self) -> Iterable[tuple[float, float]]:
        """Seconds of each log interval, and the waiting share in it."""
        before = 0
        for row in self.metrics:
            if row.get("images_per_s"):
                step = int(row["step"])
                yield (step - before) * self.batch_size / float(row["images_per_s"]), float(row["waiting_share"])
                before = step


def _points(rows: Iterable[dict[str, str]], column: str) -> Points:
    return [(float(row["step"]), float(row[column])) for row in rows if row.get(column)]
