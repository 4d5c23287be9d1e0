"""Depth: metres along the camera's axis, per pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from nddr_deploy import resample
from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.preprocess import Image
from nddr_deploy.resize import Grid
from nddr_deploy.tasks.base import Array, Metric, MetricForm, Task, as_sample, check_raw, check_same_size, check_state
from nddr_deploy.tasks.palette import Colour, as_colour


@dataclass(frozen=True)
class Depth(Task):
    """Metres; 0 in targets means "not measured".

    Shapes:
        raw: (1, h, w) metres, linear. decoded and target: (H, W) float32.

    Args:
        max_m: what `render` draws as the farthest, in metres. It never changes a value.

    Raises:
        ConfigError: max_m is no positive number.
    """

    name: str = "depth"
    max_m: float = 10.0

    kind: ClassVar[str] = "depth"
    head: ClassVar[Literal["dense", "pooled"]] = "dense"
    loss: ClassVar[str] = "l1"
    headline: ClassVar[str] = "AbsRel"
    higher_is_better: ClassVar[bool] = False
    metrics: ClassVar[Mapping[str, MetricForm]] = {
        "RMSE": MetricForm("metres", higher_is_better=False),
        "AbsRel": MetricForm("ratio", higher_is_better=False),
        "delta_1.25": MetricForm("share", higher_is_better=True),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        number = isinstance(self.max_m, (int, float)) and not isinstance(self.max_m, bool)
        if not number or not 0 < self.max_m < float("inf"):
            raise ConfigError(f"{self.name}: max_m must be a positive number of metres; got {self.max_m!r}.")
        object.__setattr__(self, "max_m", float(self.max_m))

    @property
    def channels(self) -> int:
        return 1

    def decode(self, raw: Array, grid: Grid | None = None) -> Array:
        """Resized bilinearly; a negative output, which no distance can be, becomes 0."""
        check_raw(self, raw, grid)
        metres = resample.bilinear(as_sample(raw)[0], grid)
        return np.maximum(metres, np.float32(0), out=metres)

    def resample(self, decoded: Array, grid: Grid) -> Array:
        return resample.bilinear(as_sample(decoded), grid)

    def metric(self) -> Metric:
        return DepthMetric()

    def as_target(self, decoded: Array) -> Array:
        """As it is: where 0 m was predicted, nothing is scored."""
        return decoded

    def render(self, decoded: Array, frame: Image) -> Image:
        """Near is red, far is blue; black where nothing was measured."""
        check_same_size(self.name, decoded, frame)
        picture = self._colour(decoded)
        picture[~(decoded > 0)] = 0
        return picture

    def legend(self) -> list[tuple[str, Colour]]:
        metres = np.linspace(0, self.max_m, 5, dtype=np.float32)
        colours = self._colour(metres[None])[0]
        return [(f"{value:.3g} m", as_colour(colour)) for value, colour in zip(metres, colours, strict=True)]

    def _colour(self, metres: Array) -> Image:
        import cv2

        nearness = np.nan_to_num(255 - metres * np.float32(255 / self.max_m)).clip(0, 255).round().astype(np.uint8)
        return np.ascontiguousarray(cv2.applyColorMap(nearness, cv2.COLORMAP_TURBO)[..., ::-1])  # BGR -> RGB

    def flip(self, target: Array) -> Array:
        return np.ascontiguousarray(target[:, ::-1])

    def options(self) -> dict[str, Any]:
        return {"max_m": self.max_m}


class DepthMetric:
    """Over all measured pixels of the data set: RMSE in metres, mean |p - t| / t ("AbsRel"), and "delta_1.25".

    delta_1.25 is the share with max(p / t, t / p) < 1.25, as a fraction; p the prediction, t the target.

    Raises:
        InputError: sizes differ, or a prediction at a measured pixel is NaN.
    """

    def __init__(self) -> None:
        self.pixels = 0
        self._squares = 0.0
        self._relative = 0.0
        self._near = 0

    def update(self, decoded: Array, target: Array) -> None:
        check_same_size("depth", decoded, target)
        valid = target > 0
        found, truth = decoded[valid].astype(np.float64), target[valid].astype(np.float64)
        if np.isnan(found).any():
            raise InputError("A prediction of depth holds NaN. Look for NaN in the model's raw output.")
        error = np.abs(found - truth)
        self.pixels += truth.size
        self._squares += float(np.square(error).sum())
        self._relative += float((error / truth).sum())
        self._near += int(np.count_nonzero((found < 1.25 * truth) & (truth < 1.25 * found)))

    def state(self) -> Array:
        """Measured pixels, the sums of squares and of relative errors, and pixels that are near."""
        return np.array([self.pixels, self._squares, self._relative, self._near], dtype=np.float64)

    def add(self, state: Array) -> None:
        check_state("depth", state, 4)
        self.pixels += int(state[0])
        self._squares += float(state[1])
        self._relative += float(state[2])
        self._near += int(state[3])

    def result(self) -> dict[str, float]:
        if not self.pixels:
            return dict.fromkeys(("RMSE", "AbsRel", "delta_1.25"), float("nan"))
        rmse = float(np.sqrt(self._squares / self.pixels))
        return {"RMSE": rmse, "AbsRel": self._relative / self.pixels, "delta_1.25": self._near / self.pixels}
