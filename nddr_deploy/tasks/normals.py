"""Surface normals: the direction each visible surface faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from nddr_deploy import resample
from nddr_deploy.errors import ConfigError, InputError, unknown_choice
from nddr_deploy.preprocess import Image
from nddr_deploy.resize import Grid
from nddr_deploy.tasks.base import Array, Metric, MetricForm, Task, as_sample, check_raw, check_same_size, check_state
from nddr_deploy.tasks.error_bins import ErrorBins
from nddr_deploy.tasks.palette import Colour, as_colour

THRESHOLDS_DEGREES = (11.25, 22.5, 30.0)
Coding = Literal["vector", "colour"]
# what a component may stand for -> the camera axis that this lies on, and whether it points along it or against it
CAMERA: dict[str, tuple[int, int]] = {
    "right": (0, 1),
    "left": (0, -1),
    "down": (1, 1),
    "up": (1, -1),
    "away": (2, 1),
    "toward": (2, -1),
}


@dataclass(frozen=True)
class Normals(Task):
    """A unit vector per pixel that points toward the camera; camera axes x right, y down, z forward.

    A wall that faces the camera is (0, 0, -1), the floor (0, -1, 0). Targets hold zeros where the normal is not known.

    The released code learns from pictures of normals, and its output is the direction of a colour. Results
    are normals all the same: `coding` and `axes` say how to read the raw output. A loss against unit normals knows
    nothing of the two, so training on with it turns such a head to `coding="vector"` in camera axes.

    Shapes:
        raw: (3, h, w), any length. decoded and target: (H, W, 3) float32.

    Args:
        coding: what the raw vector is. "vector": the normal times any length. "colour": its colour (n + 1) * 255 / 2
            times any length, which tells n where n1 + n2 + n3 >= -1; see `resample.colour_normals`.
        axes: the directions in which the raw vector's three components grow, in camera axes. None: not known. Then
            decoded and target are in the axes of the pictures that were learned from, have no legend and are not
            scored against data in camera axes. Whatever the axes, a raw vector without a direction becomes (0, 0, -1).

    Raises:
        ConfigError: an unknown coding, or axes that are not three directions across each other.

    Source:
        Gao et al., NDDR-CNN, CVPR 2019, section 4.1, and the code released with it.
    """

    name: str = "normals"
    coding: Coding = "vector"
    axes: tuple[str, str, str] | None = ("right", "down", "away")

    kind: ClassVar[str] = "normals"
    head: ClassVar[Literal["dense", "pooled"]] = "dense"
    loss: ClassVar[str] = "cosine"
    headline: ClassVar[str] = "mean_angle"
    higher_is_better: ClassVar[bool] = False
    metrics: ClassVar[Mapping[str, MetricForm]] = {
        "mean_angle": MetricForm("degrees", higher_is_better=False),
        "median_angle": MetricForm("degrees", higher_is_better=False),
        **{f"within_{degrees:g}": MetricForm("share", higher_is_better=True) for degrees in THRESHOLDS_DEGREES},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coding not in get_args(Coding):
            raise unknown_choice(f"{self.name}: coding", self.coding, get_args(Coding))
        object.__setattr__(self, "axes", _checked_axes(self.name, self.axes))

    @property
    def channels(self) -> int:
        return 3

    @property
    def camera(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Result = raw[components] * signs: which component each of x, y, z is, and whether it is turned round."""
        if self.axes is None:
            return (0, 1, 2), (1, 1, 1)
        found = sorted((*CAMERA[direction], component) for component, direction in enumerate(self.axes))
        (_, right, x), (_, down, y), (_, away, z) = found
        return (x, y, z), (right, down, away)

    def decode(self, raw: Array, grid: Grid | None = None) -> Array:
        """Resized bilinearly as it is, then read as a normal of length 1.

        A vector without a direction (a colour: without a component above 0) becomes (0, 0, -1); NaN stays NaN.
        """
        check_raw(self, raw, grid)
        components, signs = self.camera
        planes, turned = as_sample(raw)[list(components)], np.array(signs, dtype=np.float32)
        if self.coding == "colour":
            return resample.colour_normals(resample.bilinear(planes, grid), turned)
        return resample.unit_vectors(resample.bilinear(planes * turned[:, None, None], grid))

    def resample(self, decoded: Array, grid: Grid) -> Array:
        planes = np.ascontiguousarray(decoded.transpose(2, 0, 1))
        return resample.unit_vectors(resample.bilinear(planes, grid))

    def metric(self) -> Metric:
        return NormalsMetric()

    def as_target(self, decoded: Array) -> Array:
        return decoded

    def render(self, decoded: Array, frame: Image) -> Image:
        """Red for right, green for up, blue for toward the camera; black where a target is not known.

        In axes that are not known (n + 1) / 2, the code of the pictures that were learned from.
        """
        check_same_size(self.name, decoded, frame)
        return _colour(decoded, turned=self.axes is not None)

    def legend(self) -> list[tuple[str, Colour]]:
        if self.axes is None:
            return []
        axes = np.array([[[1, 0, 0], [0, -1, 0], [0, 0, -1]]], dtype=np.float32)
        names = ("right", "up", "toward the camera")
        return [(name, as_colour(colour)) for name, colour in zip(names, _colour(axes, turned=True)[0], strict=True)]

    def flip(self, target: Array) -> Array:
        """Mirrored, and what pointed right now points left: x changes its sign.

        In axes that are not known the first component does, for it is horizontal in the pictures that are known.
        """
        mirrored: Array = target[:, ::-1] * np.array([-1, 1, 1], dtype=target.dtype)
        return mirrored

    def options(self) -> dict[str, Any]:
        return {"coding": self.coding, "axes": None if self.axes is None else list(self.axes)}


def _checked_axes(name: str, axes: Any) -> Any:
    """The axes as a tuple, or None; ConfigError unless they lie on the three axes of the camera."""
    if axes is None:
        return None
    found = () if isinstance(axes, str) or not isinstance(axes, Sequence) else tuple(axes)
    lines = {CAMERA[direction][0] for direction in found if isinstance(direction, str) and direction in CAMERA}
    if len(found) != 3 or len(lines) != 3:
        raise ConfigError(
            f"{name}: axes are three directions, one of right or left, one of up or down, one of away or toward, in "
            f"the components' order; got {axes!r}."
        )
    return found


def _colour(normals: Array, *, turned: bool) -> Image:
    """(H, W, 3) float32 -> RGB of ((x, -y, -z) + 1) / 2; not turned of ((x, y, z) + 1) / 2."""
    picture: Image = np.rint(normals * np.float32(127.5) + np.float32(127.5)).clip(0, 255).astype(np.uint8)
    grey = (picture[..., 0] == 128) & (picture[..., 1] == 128) & (picture[..., 2] == 128)  # no unit vector is that
    if turned:
        picture[..., 1:] = 255 - picture[..., 1:]
    picture[grey] = 0
    return picture


class NormalsMetric:
    """Angles in degrees between unit normals, over all valid pixels of the data set; shares as fractions.

    Mean and shares are exact. The median comes from a histogram with bins of 0.001 degrees and is at most half a bin
    off, so that memory stays the same for any number of pixels. A state holds wider bins, so after `add` the median
    is at most 0.001 degrees off, from 1 degree on 0.1 % of itself.

    Args:
        thresholds: the t of "within_t", in degrees.
        inclusive: "within t" counts angles <= t (the paper); False counts < t, as one public code base does.

    Raises:
        InputError: sizes differ, or a prediction at a valid pixel is NaN or has no direction.
    """

    BINS = ErrorBins(step=0.001, most=180.0)  # degrees; of states, while updates are counted by single steps

    def __init__(self, *, thresholds: Sequence[float] = THRESHOLDS_DEGREES, inclusive: bool = True) -> None:
        self.inclusive = inclusive
        self.pixels = 0
        self._sum = 0.0
        self._within = dict.fromkeys(thresholds, 0)
        self._histogram: Array | None = None  # of updates: counts of single steps
        self._added: Array | None = None  # of states: counts of the wider bins

    def update(self, decoded: Array, target: Array) -> None:
        check_same_size("normals", decoded, target)
        valid = (target[..., 0] != 0) | (target[..., 1] != 0) | (target[..., 2] != 0)
        angles = angles_between(decoded[valid], target[valid])
        if np.isnan(angles).any():
            raise InputError(
                "A prediction of normals holds NaN or zero vectors. Look for NaN in the model's raw output."
            )
        self.pixels += angles.size
        self._sum += float(angles.sum())
        for threshold in self._within:
            inside = angles <= threshold if self.inclusive else angles < threshold
            self._within[threshold] += int(np.count_nonzero(inside))
        steps = np.rint(angles / self.BINS.step).astype(np.int64)
        counts = np.bincount(steps, minlength=self.BINS.steps)
        self._histogram = counts if self._histogram is None else self._histogram + counts

    def state(self) -> Array:
        """Pixels, the sum of their angles, those within each threshold, and how many angles lie in each wider bin."""
        return np.concatenate([[self.pixels, self._sum], list(self._within.values()), self._wider()])

    def add(self, state: Array) -> None:
        sums = 2 + len(self._within)
        check_state("normals", state, sums + len(self.BINS.starts))
        self.pixels += int(state[0])
        self._sum += float(state[1])
        for threshold, count in zip(self._within, state[2:sums], strict=True):
            self._within[threshold] += int(count)
        self._added = state[sums:] + (0 if self._added is None else self._added)

    def _wider(self) -> Array:
        own = np.zeros(len(self.BINS.starts)) if self._histogram is None else self.BINS.merge(self._histogram)
        return own if self._added is None else own + self._added

    def result(self) -> dict[str, float]:
        shares = {f"within_{threshold:g}": self._share(count) for threshold, count in self._within.items()}
        return {"mean_angle": self._share(self._sum), "median_angle": self._median(), **shares}

    def _share(self, total: float) -> float:
        return total / self.pixels if self.pixels else float("nan")

    def _median(self) -> float:
        if self._added is not None:
            return self.BINS.median(self._wider())
        if not self.pixels or self._histogram is None:
            return float("nan")
        below = np.cumsum(self._histogram)
        low, high = np.searchsorted(below, [(self.pixels + 1) // 2, self.pixels // 2 + 1])
        return float(low + high) / 2 * self.BINS.step


def angles_between(first: Array, second: Array) -> Array:
    """Degrees between vectors (N, 3) and (N, 3) of any length, float64; NaN where one has no direction.

    Exact near 0 and 180 too, where arccos loses half its digits.

    Source:
        Kahan, How Futile are Mindless Assessments of Roundoff, section 12: 2 atan2(|u - v|, |u + v|), |u| = |v|.
    """
    u, v = (vectors.T.astype(np.float64) for vectors in (first, second))  # (3, N)
    u, v = u * _length(v), v * _length(u)
    angles: Array = np.degrees(2 * np.arctan2(_length(u - v), _length(u + v)))
    angles[_length(u) == 0] = np.nan
    return angles


def _length(vectors: Array) -> Array:
    length: Array = np.sqrt(np.einsum("in,in->n", vectors, vectors))
    return length
