"""What labels say, in a form that adds up over samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nddr_deploy.tasks import IGNORE_LABEL, Task
from nddr_deploy.tasks.base import Array


@dataclass(frozen=True)
class LabelFacts:
    """Of one label or, after `+`, of many.

    Attributes:
        known: labelled pixels, or labels of one number.
        unknown: pixels without a label.
        lowest, highest, total: of the known values; `total` is their sum.
        counts: of classes: how many pixels or samples each has; of other tasks empty.
    """

    known: int
    unknown: int
    lowest: float
    highest: float
    total: float
    counts: Array

    def __add__(self, other: LabelFacts) -> LabelFacts:
        return LabelFacts(
            self.known + other.known,
            self.unknown + other.unknown,
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
            self.total + other.total,
            self.counts + other.counts,
        )

    def unseen(self, task: Task) -> list[str]:
        """Names of classes that nothing has."""
        return [name for name, count in zip(names_of(task), self.counts, strict=True) if count == 0]

    def lines(self, task: Task) -> list[str]:
        """For people; the first line stands beside the task's name."""
        share = f"{100 * self.unknown / max(self.known + self.unknown, 1):.1f} % not known"
        if task.kind == "age":
            return [f"{self.lowest:g} to {self.highest:g} years, mean {self.total / self.known:.1f}"]
        if task.kind == "depth":
            return [f"{self.lowest:.2f} to {self.highest:.2f} m, {share}" if self.known else share]
        if task.kind == "normals":
            return [share]
        parts = [
            f"{name} {100 * count / max(self.known, 1):.2f} %"
            for name, count in zip(names_of(task), self.counts, strict=True)
        ]
        if task.kind == "segmentation":
            return [f"{len(parts)} classes, {share}; of what is known:", *parts]
        return [", ".join(parts) + (f"; {share}" if task.kind == "binary" else "")]


def names_of(task: Task) -> tuple[str, ...]:
    """The names of a task's classes; none where it has none."""
    return ("no", "yes") if task.kind == "binary" else tuple(getattr(task, "classes", ()))


def facts_about(task: Task, target: Array) -> LabelFacts:
    """Of one label as `data.base.Sample` says, already checked."""
    classes = 0 if task.kind in ("age", "depth", "normals") else len(names_of(task))
    if task.kind == "age":
        known = target.reshape(1)
    elif task.kind == "depth":
        known = target[target > 0]
    elif task.kind == "normals":
        known = np.ones(int(np.any(target != 0, axis=2).sum()), np.uint8)
    else:
        known = target.reshape(-1)[target.reshape(-1) != IGNORE_LABEL]
    pixels = target.size // (3 if task.kind == "normals" else 1)
    return LabelFacts(
        known=known.size,
        unknown=pixels - known.size,
        lowest=float(known.min()) if known.size else np.inf,
        highest=float(known.max()) if known.size else -np.inf,
        total=float(known.sum(dtype=np.float64)),
        counts=np.bincount(known, minlength=classes) if classes else np.zeros(0, np.int64),
    )
