"""What an output of the network means: how it is decoded, scored, drawn and mirrored. No PyTorch here.

The same code scores and draws the results of PyTorch, ONNX Runtime, OpenVINO and TensorRT.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.preprocess import Image
from nddr_deploy.resize import Grid

Array = npt.NDArray[Any]
IGNORE_LABEL = 255
TASK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class MetricForm:
    """What one value of a metric is.

    Attributes:
        unit: "share" is a fraction 0 .. 1; "ratio" any number without a unit.
        higher_is_better: whether a larger value is a better one.
    """

    unit: Literal["share", "degrees", "metres", "years", "ratio"]
    higher_is_better: bool


class Metric(Protocol):
    """Accumulates over a data set, not per image."""

    def update(self, decoded: Array, target: Array) -> None:
        """Add one sample: what `Task.decode` returned, and the sample's target."""

    def result(self) -> dict[str, float]:
        """Metric name -> value over everything seen; NaN where nothing valid was seen."""

    def state(self) -> Array:
        """What was seen, (S,) float64, S the same for every metric of the task; states of different samples add up."""

    def add(self, state: Array) -> None:
        """See what another metric saw, or several: its state, or a sum of states, each as often as wanted.

        `result` then is what it would be after all their updates; a median may be off by as much as the metric says.

        Raises:
            InputError: a state of another form, for example of other classes.
        """


@dataclass(frozen=True)
class Task(ABC):
    """One task of a multi-task network.

    Attributes:
        name: names the network's output, the ONNX output and the results; unique in a network.
        kind: the key in `TASKS`; several tasks of a network may have the same kind.
        head: "dense" (a map per pixel) or "pooled" (one vector per image).
        loss: key of `training.losses.LOSSES`.
        headline: the metric's name that is quoted when there is room for one.
        higher_is_better: of the headline metric.
        metrics: metric name -> its form, for exactly the names of `metric().result()`.
    """

    name: str

    kind: ClassVar[str]
    head: ClassVar[Literal["dense", "pooled"]]
    loss: ClassVar[str]
    headline: ClassVar[str]
    higher_is_better: ClassVar[bool]
    metrics: ClassVar[Mapping[str, MetricForm]]

    def __post_init__(self) -> None:
        # It names an output of the graph, whose input is "images", and files and folders of results.
        if not isinstance(self.name, str) or not TASK_NAME.fullmatch(self.name) or self.name == "images":
            raise ConfigError(
                f"{self.name!r} cannot name a task. Use a letter, then letters, digits, '_' and '-'; "
                "not 'images', the name of the input."
            )

    @property
    @abstractmethod
    def channels(self) -> int:
        """Channels of the raw output."""

    @abstractmethod
    def decode(self, raw: Array, grid: Grid | None = None) -> Array:
        """One sample's raw output -> the task's unit, at the grid's size.

        Shapes:
            dense: raw (C, h, w) float -> segmentation (H, W) uint8 labels; normals (H, W, 3) float32 unit vectors;
            depth (H, W) float32 metres; binary (H, W) float32 probabilities. `grid.source_hw` is (h, w); None decodes
            at (h, w) itself.
            pooled: raw (C,) float -> age () float32 years; classification (C,) float32 probabilities; `grid` is
            ignored.

        Raises:
            InputError: another number of channels, a batch, or a grid of another source size. NaN is not looked for.
        """

    @abstractmethod
    def resample(self, decoded: Array, grid: Grid) -> Array:
        """A decoded dense result at one size -> at the grid's size. Labels: nearest; others: bilinear.

        A pooled result stays as it is.
        """

    @abstractmethod
    def metric(self) -> Metric:
        """A fresh accumulator of this task's metrics."""

    @abstractmethod
    def as_target(self, decoded: Array) -> Array:
        """A decoded result in the form of a target, so that one result can be scored against another."""

    @abstractmethod
    def render(self, decoded: Array, frame: Image) -> Image:
        """A picture of the result alone, RGB uint8 of the frame's size (pooled tasks: a text badge on the frame)."""

    def caption(self, decoded: Array) -> str:
        """What a pooled result says in a few words, as in "age 34"; empty for dense tasks."""
        return ""

    def legend(self) -> list[tuple[str, tuple[int, int, int]]]:
        """(text, RGB colour) rows that explain `render`; empty where a legend makes no sense."""
        return []

    @abstractmethod
    def flip(self, target: Array) -> Array:
        """The target of the left-right mirrored image."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The constructor's arguments besides `name`, as JSON values."""

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name, **self.options()}


def check_raw(task: Task, raw: Array, grid: Grid | None) -> None:
    """Raise InputError unless `raw` is one sample of the task's raw output, and of the size that the grid reads."""
    dimensions, form = (3, f"({task.channels}, h, w)") if task.head == "dense" else (1, f"({task.channels},)")
    if raw.ndim != dimensions or raw.shape[0] != task.channels or raw.size == 0:
        raise InputError(
            f"{task.name}: expected one sample's raw output {form}; got {raw.shape}. Decode a batch one by one."
        )
    if grid is not None and raw.shape[1:] != grid.source_hw:
        raise InputError(f"{task.name}: the grid reads a map of {grid.source_hw}; the raw output is {raw.shape[1:]}.")


def class_names(task: str, names: Iterable[str], least: int, most: int) -> tuple[str, ...]:
    """The names as a tuple; ConfigError unless they are `least` to `most` different strings."""
    found = () if isinstance(names, str) or not isinstance(names, Iterable) else tuple(names)
    if not least <= len(found) <= most or not all(isinstance(name, str) for name in found):
        raise ConfigError(f"{task}: expected a list of {least} to {most} class names; got {names!r}.")
    for name in found:
        if found.count(name) > 1:
            raise ConfigError(f"{task}: the class {name!r} is listed twice. Give every class its own name.")
    return found


def check_same_size(name: str, decoded: Array, other: Array) -> None:
    """Raise InputError unless both have the same height and width."""
    if decoded.shape[:2] != other.shape[:2]:
        raise InputError(
            f"{name}: a result of {decoded.shape[0]}x{decoded.shape[1]} pixels meets one of "
            f"{other.shape[0]}x{other.shape[1]}. Bring both to one size first, see `Task.resample`."
        )


def check_state(name: str, state: Array, size: int) -> None:
    """Raise InputError unless a state to be added has the size of the metric's own."""
    if np.shape(state) != (size,):
        raise InputError(
            f"{name}: a state of {size} numbers was expected; got shape {np.shape(state)}. "
            "Add only states of metrics with the same classes and thresholds."
        )


def softmax(logits: Array) -> Array:
    """Probabilities (C,) float32 of logits (C,)."""
    powers = np.exp(logits - logits.max())
    probabilities: Array = powers / powers.sum()
    return probabilities


Results = Mapping[str, Array]


def as_sample(raw: Array) -> Array:
    """Float32, contiguous, whatever the engine returned."""
    return np.ascontiguousarray(raw, dtype=np.float32)
