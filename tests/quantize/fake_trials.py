"""Trials whose outcomes are sums of numbers that a test gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nddr_deploy.evaluate.change import Change
from nddr_deploy.tasks import Normals, Segmentation

TASKS = (Segmentation(classes=("floor", "wall")), Normals())
PLACES = (("segmentation", "mIoU"), ("normals", "mean_angle"))
BEFORE = {"segmentation": 0.8, "normals": 20.0}


class FakeTrials:
    """Each layer costs mIoU points and degrees; sets of layers may cost more, or less, together.

    Args:
        losses: (points, degrees) of each layer in integers; NaN is allowed.
        together: layers -> (points, degrees) where all of them are in integers.
        width: of half an interval, in points and degrees; None measures none.
        samples: what a search takes them for.

    Attributes:
        asked: the mixes that were asked for, as the layers kept, each time anew.
        judged: how many different ones.
    """

    def __init__(
        self,
        losses: Mapping[str, tuple[float, float]] | Sequence[tuple[float, float]],
        together: Mapping[tuple[str, ...], tuple[float, float]] | None = None,
        *,
        width: float | None = None,
        samples: int = 64,
    ) -> None:
        named = losses if isinstance(losses, Mapping) else {f"layer{place}": loss for place, loss in enumerate(losses)}
        self.layers = tuple(named)
        self.asked: list[frozenset[str]] = []
        self.evaluation: Any = _Evaluation(samples)
        self._losses = named
        self._together = dict(together or {})
        self._width = float("nan") if width is None else width

    @property
    def judged(self) -> int:
        return len(set(self.asked))

    def changes(self, keep: Iterable[str] = ()) -> tuple[Change, ...]:
        kept = frozenset(keep)
        assert kept <= set(self.layers)
        self.asked.append(kept)
        points, degrees = 0.0, 0.0
        for name, loss in self._losses.items():
            if name not in kept:
                points, degrees = points + loss[0], degrees + loss[1]
        for names, loss in self._together.items():
            if kept.isdisjoint(names):
                points, degrees = points + loss[0], degrees + loss[1]
        return tuple(self._change(task, loss) for task, loss in zip(TASKS, (-points / 100, degrees), strict=True))

    def _change(self, task: Any, change: float) -> Change:
        before, width = BEFORE[task.name], self._width / 100 if task.name == "segmentation" else self._width
        form = task.metrics[task.headline]
        return Change(task.name, task.headline, form, before, before + change, change - width, change + width)


class _Evaluation:
    tasks = TASKS

    def __init__(self, samples: int) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return self._samples
