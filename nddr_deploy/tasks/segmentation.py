"""Semantic segmentation: one class per pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from nddr_deploy import resample
from nddr_deploy.errors import ConfigError, InputError, unknown_choice
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
    class_names,
)
from nddr_deploy.tasks.palette import Colour, as_palette, distinct_colours

Absent = Literal["skip", "zero", "nan"]


@dataclass(frozen=True)
class Segmentation(Task):
    """A label 0 .. C - 1 per pixel; 255 in targets means "not labelled".

    Shapes:
        raw: (C, h, w) scores. decoded and target: (H, W) uint8.

    Args:
        classes: the names of the C <= 255 classes, in the order of the channels.
        palette: an RGB colour per class; None takes colours that differ as much as they can.

    Raises:
        ConfigError: no or too many classes, a name twice, or a palette of another length.

    Source:
        Gao et al., NDDR-CNN, CVPR 2019, section 4.1.
    """

    name: str = "segmentation"
    classes: tuple[str, ...] = ()
    palette: tuple[Colour, ...] | None = None

    kind: ClassVar[str] = "segmentation"
    head: ClassVar[Literal["dense", "pooled"]] = "dense"
    loss: ClassVar[str] = "cross_entropy"
    headline: ClassVar[str] = "mIoU"
    higher_is_better: ClassVar[bool] = True
    metrics: ClassVar[Mapping[str, MetricForm]] = {
        "mIoU": MetricForm("share", higher_is_better=True),
        "PAcc": MetricForm("share", higher_is_better=True),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        classes = class_names(self.name, self.classes, 1, IGNORE_LABEL)
        palette = distinct_colours(len(classes)) if self.palette is None else as_palette(self.palette)
        if len(palette) != len(classes):
            raise ConfigError(
                f"{self.name}: the palette has {len(palette)} colours for {len(classes)} classes. Give one to each."
            )
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "palette", palette)

    @property
    def channels(self) -> int:
        return len(self.classes)

    def decode(self, raw: Array, grid: Grid | None = None) -> Array:
        """The argmax of the bilinearly resized scores; of equal scores the lowest class, never one that is NaN."""
        check_raw(self, raw, grid)
        return resample.argmax_bilinear(as_sample(raw), grid)

    def resample(self, decoded: Array, grid: Grid) -> Array:
        return resample.nearest(decoded, grid)

    def metric(self) -> Metric:
        return SegmentationMetric(self.classes)

    def as_target(self, decoded: Array) -> Array:
        return decoded

    def render(self, decoded: Array, frame: Image) -> Image:
        """The class colours; black where a target is not labelled."""
        check_same_size(self.name, decoded, frame)
        colours = np.zeros((256, 3), dtype=np.uint8)
        colours[: self.channels] = np.array(self.palette, dtype=np.uint8)
        picture: Image = colours.take(decoded, axis=0)
        return picture

    def legend(self) -> list[tuple[str, Colour]]:
        return list(zip(self.classes, self.palette or (), strict=True))

    def flip(self, target: Array) -> Array:
        return np.ascontiguousarray(target[:, ::-1])

    def options(self) -> dict[str, Any]:
        return {"classes": list(self.classes), "palette": [list(colour) for colour in self.palette or ()]}


class SegmentationMetric:
    """mIoU and pixel accuracy ("PAcc") from one confusion matrix over the data set, both as fractions.

    Args:
        classes: the class names.
        absent: what a class counts that is in no target and no prediction. "skip" leaves it out of the mean;
            "zero" counts it as 0 and "nan" makes the mean NaN, as public code does.

    Attributes:
        confusion: (C, C) int64 pixels, [target, prediction].

    Raises:
        InputError: a prediction and a target of different sizes, or a label that is no class.
    """

    def __init__(self, classes: Sequence[str], *, absent: Absent = "skip") -> None:
        if absent not in ("skip", "zero", "nan"):
            raise unknown_choice("absent", absent, ("skip", "zero", "nan"))
        self.classes = tuple(classes)
        self.absent = absent
        self.confusion = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)

    def update(self, decoded: Array, target: Array) -> None:
        check_same_size("segmentation", decoded, target)
        valid = target != IGNORE_LABEL
        truth, found = target[valid].astype(np.int64), decoded[valid].astype(np.int64)
        count = len(self.classes)
        for what, labels in (("target", truth), ("prediction", found)):
            if labels.size and not 0 <= labels.min() <= labels.max() < count:
                wrong = labels[(labels < 0) | (labels >= count)][0]
                raise InputError(
                    f"A segmentation {what} holds the label {wrong}; expected 0 to {count - 1}, or 255 in a target."
                )
        self.confusion += np.bincount(truth * count + found, minlength=count * count).reshape(count, count)

    def state(self) -> Array:
        """The confusion matrix, (C * C,)."""
        state: Array = self.confusion.reshape(-1).astype(np.float64)
        return state

    def add(self, state: Array) -> None:
        check_state("segmentation", state, self.confusion.size)
        self.confusion += state.astype(np.int64).reshape(self.confusion.shape)

    def class_iou(self) -> dict[str, float]:
        """Class name -> intersection over union; NaN for a class in no target and no prediction."""
        hits = np.diag(self.confusion).astype(np.float64)
        union = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - hits
        iou = np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
        return {name: float(value) for name, value in zip(self.classes, iou, strict=True)}

    def result(self) -> dict[str, float]:
        pixels = int(self.confusion.sum())
        if pixels == 0:
            return {"mIoU": float("nan"), "PAcc": float("nan")}
        iou = np.array(list(self.class_iou().values()))
        if self.absent == "skip":
            iou = iou[~np.isnan(iou)]
        elif self.absent == "zero":
            iou = np.nan_to_num(iou, nan=0.0)
        return {"mIoU": float(iou.mean()), "PAcc": float(np.trace(self.confusion) / pixels)}
