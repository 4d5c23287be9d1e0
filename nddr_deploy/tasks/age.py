"""Age: one number of years per image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.preprocess import Image
from nddr_deploy.resize import Grid
from nddr_deploy.tasks.base import Array, Metric, MetricForm, Task, as_sample, check_raw, check_state, softmax
from nddr_deploy.tasks.drawing import draw_badge
from nddr_deploy.tasks.error_bins import ErrorBins

BINS = ErrorBins(step=0.01, most=200.0)  # years


@dataclass(frozen=True)
class Age(Task):
    """Years 0 .. C - 1 as C classes; the estimate is their expectation, the sum over k of p_k k.

    Shapes:
        raw: (C,) logits. decoded and target: () float32 years.

    Args:
        classes: C, the number of years.

    Source:
        Gao et al., NDDR-CNN, CVPR 2019, section 4.1 (after Rothe et al., DEX).
    """

    name: str = "age"
    classes: int = 100

    kind: ClassVar[str] = "age"
    head: ClassVar[Literal["dense", "pooled"]] = "pooled"
    loss: ClassVar[str] = "age_cross_entropy"
    headline: ClassVar[str] = "MAE"
    higher_is_better: ClassVar[bool] = False
    metrics: ClassVar[Mapping[str, MetricForm]] = {
        "MAE": MetricForm("years", higher_is_better=False),
        "MedAE": MetricForm("years", higher_is_better=False),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.classes, bool) or not isinstance(self.classes, int) or self.classes < 2:
            raise ConfigError(f"{self.name}: classes must be a number of years, at least 2; got {self.classes!r}.")

    @property
    def channels(self) -> int:
        return self.classes

    def decode(self, raw: Array, grid: Grid | None = None) -> Array:
        check_raw(self, raw, None)
        years = np.arange(self.classes, dtype=np.float32)
        return np.asarray(softmax(as_sample(raw)) @ years, dtype=np.float32)

    def resample(self, decoded: Array, grid: Grid) -> Array:
        return decoded

    def metric(self) -> Metric:
        return AgeMetric()

    def as_target(self, decoded: Array) -> Array:
        return decoded

    def caption(self, decoded: Array) -> str:
        return f"{self.name} {float(decoded):.0f}"

    def render(self, decoded: Array, frame: Image) -> Image:
        return draw_badge(frame, [self.caption(decoded)])

    def flip(self, target: Array) -> Array:
        return target

    def options(self) -> dict[str, Any]:
        return {"classes": self.classes}


class AgeMetric:
    """Mean ("MAE") and median ("MedAE") absolute error in years.

    After updates alone both are exact. After `add` the median is at most 0.01 years off, from 10 years on 0.1 % of
    itself, and at most 200.

    Raises:
        InputError: not one number each, or a prediction that is NaN.
    """

    def __init__(self) -> None:
        self._errors: list[float] = []
        self._added: Array | None = None

    def update(self, decoded: Array, target: Array) -> None:
        if np.size(decoded) != 1 or np.size(target) != 1:
            raise InputError(f"Expected one age and one target; got shapes {np.shape(decoded)} and {np.shape(target)}.")
        error = abs(float(np.reshape(decoded, ())) - float(np.reshape(target, ())))
        if np.isnan(error):
            raise InputError(f"An age of {decoded} was predicted for {target}. Look for NaN in the model's raw output.")
        self._errors.append(error)

    def state(self) -> Array:
        """Images, the sum of their errors, and how many errors lie in each of `BINS`."""
        errors = np.array(self._errors, dtype=np.float64)
        own = np.concatenate([[errors.size, errors.sum()], BINS.count(errors)])
        return own if self._added is None else own + self._added

    def add(self, state: Array) -> None:
        check_state("age", state, 2 + len(BINS.starts))
        self._added = state + (0 if self._added is None else self._added)

    def result(self) -> dict[str, float]:
        if self._added is not None:
            seen = self.state()
            mean = float(seen[1] / seen[0]) if seen[0] else float("nan")
            return {"MAE": mean, "MedAE": BINS.median(seen[2:])}
        if not self._errors:
            return {"MAE": float("nan"), "MedAE": float("nan")}
        return {"MAE": float(np.mean(self._errors)), "MedAE": float(np.median(self._errors))}
