"""Do two forms of one model agree? Head by head, on the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from nddr_deploy.preprocess import Image
from nddr_deploy.resize import Convention, Grid
from nddr_deploy.tasks.base import Array, Task

Model = Callable[[Image], Mapping[str, Array]]
TOLERANCE = 1e-4


@dataclass(frozen=True)
class HeadParity:
    """How one head of the candidate compares with the reference.

    Attributes:
        task: its name.
        passed: the verdict; where it is False, `problem` says why.
        max_abs: the largest difference (labels: the share of pixels that differ); NaN where values cannot be compared.
        extent: the reference's largest value minus its smallest, over all images; at least 1 % of the largest
            magnitude, below which float32 rounds (labels: 1).
        relative: max_abs / extent.
        outside: share of values that differ by more than the tolerance (labels: that differ at all).
        metrics: the candidate's decoded result scored in the task's own metrics, the reference's being the truth.
    """

    task: str
    passed: bool
    problem: str = ""
    max_abs: float = float("nan")
    extent: float = float("nan")
    relative: float = float("nan")
    outside: float = float("nan")
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ParityReport:
    """Every head's comparison; `passed` when every head passed."""

    heads: tuple[HeadParity, ...]
    tolerance: float
    images: tuple[tuple[int, ...], ...]

    @property
    def passed(self) -> bool:
        return all(head.passed for head in self.heads)

    def problems(self) -> str:
        return "; ".join(f"{head.task}: {head.problem}" for head in self.heads if not head.passed)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; what is not a finite number becomes None."""
        values = asdict(self)
        for head in values["heads"]:
            head.update({key: _finite(value) for key, value in head.items() if isinstance(value, float)})
            head["metrics"] = {name: _finite(value) for name, value in head["metrics"].items()}
        return {"passed": self.passed, **values}

    def table(self) -> str:
        """One line per head, for people."""
        width = max(len("head"), *(len(head.task) for head in self.heads))
        title = f"{'head':{width}}  {'max abs':>9}  {'range':>9}  {'of range':>9}  {'verdict':7}"
        lines = [f"{title}  decoded, against the reference"]
        for head in self.heads:
            metrics = ", ".join(f"{name} {value:.4g}" for name, value in head.metrics.items() if np.isfinite(value))
            lines.append(
                f"{head.task:{width}}  {head.max_abs:9.2e}  {head.extent:9.3g}  {head.relative:9.2e}  "
                f"{'equal' if head.passed else 'DIFFERS':7}  {head.problem or metrics or '-'}"
            )
        return "\n".join(lines)


def check_parity(
    reference: Model,
    candidate: Model,
    images: Sequence[Image],
    tasks: Sequence[Task],
    *,
    tolerance: float = TOLERANCE,
    share: float | None = None,
    outputs: Literal["raw", "decoded"] = "raw",
    resize: Convention = "half_pixel",
) -> ParityReport:
    """Run both models on the same images and compare every head.

    Raw outputs pass when no value differs by more than `tolerance` times the range of the reference's values. Decoded
    maps may do so at a share of `tolerance` of their pixels (one pixel at least): where two classes tie, or a normal
    has no length, the smallest rounding decides. Where `share` is given, that share of any output's values may.

    Args:
        reference, candidate: uint8 (N, H, W, 3) -> {task name: (N, ...)}.
        images: batches, uint8 (N, H, W, 3) each; sizes may differ between batches.
        tasks: the heads that both must have, and no others.
        tolerance: as a share of the range.
        share: of an output's values that may differ by more, for arithmetic of less precision; None is as said above.
        outputs: what both models return.
        resize: how raw maps are brought to the image's size, for the task's own metrics.
    """
    pairs = [(reference(batch), candidate(batch), batch.shape[1:3]) for batch in images]
    names = {task.name for task in tasks}
    heads = [_head(task, pairs, tolerance, share, outputs, resize) for task in tasks]
    for name in sorted({name for pair in pairs for outputs_of in pair[:2] for name in outputs_of} - names):
        heads.append(HeadParity(name, False, "an output that is no task of this model"))
    return ParityReport(tuple(heads), tolerance, tuple(batch.shape for batch in images))


_Pairs = Sequence[tuple[Mapping[str, Array], Mapping[str, Array], tuple[int, ...]]]


def _head(
    task: Task,
    pairs: _Pairs,
    tolerance: float,
    share: float | None,
    outputs: Literal["raw", "decoded"],
    resize: Convention,
) -> HeadParity:
    for side, place in (("reference", 0), ("candidate", 1)):
        if any(task.name not in pair[place] for pair in pairs):
            return HeadParity(task.name, False, f"the {side} has no such output")
    expected = [np.asarray(pair[0][task.name]) for pair in pairs]
    found = [np.asarray(pair[1][task.name]) for pair in pairs]
    for one, other in zip(expected, found, strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            return HeadParity(task.name, False, f"{other.dtype} {other.shape} instead of {one.dtype} {one.shape}")
        if not np.isfinite(one).all() or not np.isfinite(other).all():
            return HeadParity(task.name, False, "NaN or infinity")

    labels = np.issubdtype(expected[0].dtype, np.integer)
    extent = 1.0 if labels else _extent(expected)
    limit = 0.0 if labels else tolerance * extent
    differences = [np.abs(other.astype(np.float64) - one) for one, other in zip(expected, found, strict=True)]
    beyond = sum(int(np.count_nonzero(difference > limit)) for difference in differences)
    values = sum(difference.size for difference in differences)
    max_abs = beyond / values if labels else max(float(difference.max()) for difference in differences)
    allowed = int((share or 0) * values)
    if outputs == "decoded" and task.head == "dense":
        per_pixel = 3 if expected[0].ndim == 4 else 1
        allowed = max(per_pixel, int((tolerance if share is None else share) * values))
    passed = beyond <= allowed
    return HeadParity(
        task.name,
        passed,
        ""
        if passed
        else f"{beyond} of {values} values differ" + ("" if labels else f" by more than {tolerance:g} of the range"),
        max_abs,
        extent,
        max_abs / extent,
        beyond / values,
        _score(task, pairs, outputs, resize),
    )


def _score(task: Task, pairs: _Pairs, outputs: Literal["raw", "decoded"], resize: Convention) -> dict[str, float]:
    """The candidate's decoded results in the task's metrics, with the reference's as the truth."""
    metric = task.metric()
    for expected, found, size_hw in pairs:
        for one, other in zip(expected[task.name], found[task.name], strict=True):
            if outputs == "raw":
                grid = None
                if task.head == "dense":
                    grid = Grid.between((one.shape[1], one.shape[2]), (size_hw[0], size_hw[1]), resize)
                one, other = task.decode(one, grid), task.decode(other, grid)
            metric.update(other, task.as_target(one))
    return metric.result()


def _extent(expected: Sequence[Array]) -> float:
    """Largest minus smallest; at least 1 % of the largest magnitude, since what is below is float32's own rounding."""
    largest = max(float(values.max()) for values in expected)
    smallest = min(float(values.min()) for values in expected)
    return max(largest - smallest, 0.01 * max(abs(largest), abs(smallest))) or 1.0


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
