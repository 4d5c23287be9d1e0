"""Classification: one class per image, for example gender."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from nddr_deploy.errors import InputError
from nddr_deploy.preprocess import Image
from nddr_deploy.resize import Grid
from nddr_deploy.tasks.base import (
    Array,
    Metric,
    MetricForm,
    Task,
    as_sample,
    check_raw,
    check_state,
    class_names,
    softmax,
)
from nddr_deploy.tasks.drawing import draw_badge

MOST_CLASSES = 100_000


@dataclass(frozen=True)
class Classification(Task):
    """A probability per class.

    Shapes:
        raw: (C,) logits. decoded: (C,) float32 probabilities. target: () int64, the class.

    Args:
        classes: the names of the C >= 2 classes, in the order of the outputs.

    Raises:
        ConfigError: fewer than two classes, or a name twice.

    Source:
        Gao et al., NDDR-CNN, CVPR 2019, section 4.1: gender, 2 classes.
    """

    name: str
    classes: tuple[str, ...]

    kind: ClassVar[str] = "classification"
    head: ClassVar[Literal["dense", "pooled"]] = "pooled"
    loss: ClassVar[str] = "cross_entropy"
    headline: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    metrics: ClassVar[Mapping[str, MetricForm]] = {"accuracy": MetricForm("share", higher_is_better=True)}

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "classes", class_names(self.name, self.classes, 2, MOST_CLASSES))

    @property
    def channels(self) -> int:
        return len(self.classes)

    def decode(self, raw: Array, grid: Grid | None = None) -> Array:
        check_raw(self, raw, None)
        return softmax(as_sample(raw))

    def resample(self, decoded: Array, grid: Grid) -> Array:
        return decoded

    def metric(self) -> Metric:
        return ClassificationMetric(len(self.classes))

    def as_target(self, decoded: Array) -> Array:
        return np.asarray(np.argmax(decoded), dtype=np.int64)

    def caption(self, decoded: Array) -> str:
        best = int(np.argmax(decoded))
        return f"{self.name} {self.classes[best]} {100 * float(decoded[best]):.0f} %"

    def render(self, decoded: Array, frame: Image) -> Image:
        return draw_badge(frame, [self.caption(decoded)])

    def flip(self, target: Array) -> Array:
        return target

    def options(self) -> dict[str, Any]:
        return {"classes": list(self.classes)}


class ClassificationMetric:
    """The share of images whose most probable class is the right one ("accuracy").

    Args:
        classes: how many there are.

    Raises:
        InputError: the prediction is not one probability per class, holds NaN, or the target is no class.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._seen = 0
        self._right = 0

    def update(self, decoded: Array, target: Array) -> None:
        if np.shape(decoded) != (self.classes,) or np.size(target) != 1:
            found = f"{np.shape(decoded)} and {np.shape(target)}"
            raise InputError(f"Expected {self.classes} probabilities and one class as the target; got shapes {found}.")
        truth = int(np.reshape(target, ()))
        if not 0 <= truth < self.classes:
            raise InputError(f"A classification target is {truth}; expected a class 0 to {self.classes - 1}.")
        if np.isnan(decoded).any():
            raise InputError("A prediction of classes holds NaN. Look for NaN in the model's raw output.")
        self._seen += 1
        self._right += int(np.argmax(decoded)) == truth

    def state(self) -> Array:
        """Images seen, and those that were right."""
        return np.array([self._seen, self._right], dtype=np.float64)

    def add(self, state: Array) -> None:
        check_state("classification", state, 2)
        self._seen += int(state[0])
        self._right += int(state[1])

    def result(self) -> dict[str, float]:
        return {"accuracy": self._right / self._seen if self._seen else float("nan")}
