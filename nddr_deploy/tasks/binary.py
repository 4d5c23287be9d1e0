"""Yes or no per pixel: what stands out, where an edge runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from nddr_deploy import resample
from nddr_deploy.errors import InputError
from nddr_deploy.preprocess import Image
from nddr_deploy.resize import Grid
from nddr_deploy.tasks.base import (
    IGNORE_LABEL,
    Array,
    Metric,
    MetricForm,
    Task,
    as_sample,
    check_raw,
    check_same_size,
    check_state,
)
from nddr_deploy.tasks.palette import Colour, as_colour

NO, YES = (8, 36, 40), (40, 255, 225)  # of one hue, in nearly even steps of lightness; black is what is not labelled
LEVELS = 256  # thresholds 0, 1/256, ... of the precision/recall curve; a half is one of them


@dataclass(frozen=True)
class Binary(Task):
    """A probability 0 .. 1 per pixel; targets hold 0 (no), 1 (yes) and 255 (not labelled).

    Shapes:
        raw: (1, h, w) logits. decoded: (H, W) float32. target: (H, W) uint8.

    Source:
        Vandenhende et al., Multi-Task Learning for Dense Prediction Tasks, TPAMI 2021: saliency and edges.
    """

    name: str = "saliency"

    kind: ClassVar[str] = "binary"
    head: ClassVar[Literal["dense", "pooled"]] = "dense"
    loss: ClassVar[str] = "binary_cross_entropy"
    headline: ClassVar[str] = "maxF"
    higher_is_better: ClassVar[bool] = True
    metrics: ClassVar[Mapping[str, MetricForm]] = {
        "maxF": MetricForm("share", higher_is_better=True),
        "IoU": MetricForm("share", higher_is_better=True),
    }

    @property
    def channels(self) -> int:
        return 1

    def decode(self, raw: Array, grid: Grid | None = None) -> Array:
        """The sigmoid of the bilinearly resized logits."""
        check_raw(self, raw, grid)
        logits = resample.bilinear(as_sample(raw)[0], grid)
        probability: Array = np.tanh(logits * np.float32(0.5)) * np.float32(0.5) + np.float32(0.5)  # cannot overflow
        return probability

    def resample(self, decoded: Array, grid: Grid) -> Array:
        return resample.bilinear(as_sample(decoded), grid)

    def metric(self) -> Metric:
        return BinaryMetric()

    def as_target(self, decoded: Array) -> Array:
        """1 where the probability is a half or more."""
        target: Array = (decoded >= 0.5).astype(np.uint8)
        return target

    def render(self, decoded: Array, frame: Image) -> Image:
        """Brighter is likelier; black where a target is not labelled."""
        check_same_size(self.name, decoded, frame)
        picture = _colour(decoded)
        picture[decoded == IGNORE_LABEL] = 0
        return picture

    def legend(self) -> list[tuple[str, Colour]]:
        shares = np.linspace(0, 1, 5, dtype=np.float32)
        return [(f"{share:.0%}", as_colour(colour)) for share, colour in zip(shares, _colour(shares), strict=True)]

    def flip(self, target: Array) -> Array:
        return np.ascontiguousarray(target[:, ::-1])

    def options(self) -> dict[str, Any]:
        return {}


def _colour(probability: Array) -> Image:
    """(...) 0 .. 1 -> RGB (..., 3) uint8, from NO to YES."""
    ramp = np.linspace(NO, YES, 256).round().astype(np.uint8)
    picture: Image = ramp.take(np.nan_to_num(probability * 255.0).clip(0, 255).round().astype(np.uint8), axis=0)
    return picture


class BinaryMetric:
    """ "maxF" and "IoU" of the yes pixels, from one histogram over all labelled pixels of the data set.

    maxF is the best F-measure 2 P R / (P + R) (beta^2 = 1) on the data set's one curve of precision P against recall
    R, over the thresholds 0, 1/256, ..., 255/256; a probability at the threshold counts as yes. Some public code takes
    the best or the mean per image instead. IoU is that at the threshold 1/2. Both are fractions.

    maxF is NaN where no pixel is labelled yes, IoU where none is found either.

    Raises:
        InputError: sizes differ, a target other than 0, 1 and 255, or a prediction at a labelled pixel that is NaN.
    """

    def __init__(self) -> None:
        self.histogram = np.zeros((2, LEVELS), dtype=np.int64)  # [target, level of the probability]

    def update(self, decoded: Array, target: Array) -> None:
        check_same_size("binary", decoded, target)
        valid = target != IGNORE_LABEL
        truth, found = target[valid].astype(np.int64), decoded[valid]
        if truth.size and not 0 <= truth.min() <= truth.max() <= 1:
            wrong = truth[(truth < 0) | (truth > 1)][0]
            raise InputError(f"A yes-or-no target holds {wrong}; expected 0 (no), 1 (yes) or 255 (not labelled).")
        if np.isnan(found).any():
            raise InputError("A prediction of a yes-or-no task holds NaN. Look for NaN in the model's raw output.")
        level = (found * LEVELS).clip(0, LEVELS - 1).astype(np.int64)
        self.histogram += np.bincount(truth * LEVELS + level, minlength=2 * LEVELS).reshape(2, LEVELS)

    def state(self) -> Array:
        """The histogram, (2 * LEVELS,)."""
        state: Array = self.histogram.reshape(-1).astype(np.float64)
        return state

    def add(self, state: Array) -> None:
        check_state("binary", state, self.histogram.size)
        self.histogram += state.astype(np.int64).reshape(self.histogram.shape)

    def result(self) -> dict[str, float]:
        false, true = self.histogram[:, ::-1].cumsum(axis=1)[:, ::-1]  # found at each threshold: wrongly, rightly
        positives = int(self.histogram[1].sum())
        union = int(false[LEVELS // 2]) + positives
        return {
            "maxF": float((2 * true / (true + false + positives)).max()) if positives else float("nan"),
            "IoU": int(true[LEVELS // 2]) / union if union else float("nan"),
        }
