"""Age: one number of years per image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.preprocess import Image
from nddr_deploy.resize import Grid
from nddr_deploy.tasks.base import Array, Metric, Task, as_sample, check_raw, softmax
from nddr_deploy.tasks.drawing import draw_badge


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

    Raises:
        InputError: not one number each, or a prediction that is NaN.
    """

    def __init__(self) -> None:
        self._errors: list[float] = []

    def update(self, decoded: Array, target: Array) -> None:
        if np.size(decoded) != 1 or np.size(target) != 1:
            raise InputError(f"Expected one age and one target; got shapes {np.shape(decoded)} and {np.shape(target)}.")
        error = abs(float(np.reshape(decoded, ())) - float(np.reshape(target, ())))
        if np.isnan(error):
            raise InputError(f"An age of {decoded} was predicted for {target}. Look for NaN in the model's raw output.")
        self._errors.append(error)

    def result(self) -> dict[str, float]:
        if not self._errors:
            return {"MAE": float("nan"), "MedAE": float("nan")}
        return {"MAE": float(np.mean(self._errors)), "MedAE": float(np.median(self._errors))}
