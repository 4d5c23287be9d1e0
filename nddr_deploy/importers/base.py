"""What a foreign checkpoint is, what the user adds to it, and what an importer says about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch

from nddr_deploy.errors import ConfigError, ModelFileError, UnsupportedError, unknown_choice
from nddr_deploy.network.config import NetworkConfig
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.tasks import Task

Triple: TypeAlias = tuple[float, float, float]
# A part of our network -> the file's layers in the order of computation, or a function from our layer's name to theirs.
Layers: TypeAlias = Sequence[str] | Callable[[str], str]


@dataclass(frozen=True)
class Foreign:
    """A checkpoint of other code as it was read, before anything is known about its format.

    Attributes:
        path: of the file.
        weights: name -> tensor, convolutions as (out, in, height, width); may read a tensor when it is asked for.
        shapes: name -> shape, without reading.
        config: the settings that the file carries, or None.
        extras: names of the file's other entries, such as losses and metrics.
    """

    path: Path
    weights: Mapping[str, torch.Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    config: Mapping[str, Any] | None = None
    extras: tuple[str, ...] = ()

    def outputs(self, key: str) -> int:
        """Output channels of the 2-D convolution or fully connected layer with this weight.

        Raises:
            ModelFileError: there is no such weight.
            UnsupportedError: it belongs to a 1-D or 3-D convolution.
        """
        if key not in self.shapes:
            raise ModelFileError(
                f"{self.path} does not have {key!r}, which a complete checkpoint of its format has. "
                "Give the whole file as the training wrote it."
            )
        shape = self.shapes[key]
        if len(shape) not in (2, 4):
            raise UnsupportedError(
                f"{self.path}: {key!r} has the shape {shape}. Only networks of 2-D convolutions can be imported."
            )
        return shape[0]

    def setting(self, path: str, default: Any = None) -> Any:
        """A setting of the file's config, as in `"MODEL.NDDR_TYPE"`; the default where it is not there.

        Raises:
            ModelFileError: it is no plain value.
        """
        section, _, name = path.rpartition(".")
        value = self.section(section).get(name)
        if value is None:
            return default
        if not isinstance(value, (str, bool, int, float)):
            raise ModelFileError(
                f"{self.path}: its cfg holds a {type(value).__name__} as {path}; expected a plain value. "
                "Give the file as the training wrote it."
            )
        return value

    def section(self, name: str) -> Mapping[str, Any]:
        """The settings under a name of the file's config, the config itself for no name; empty where there are none."""
        config = self.config or {}
        found = config.get(name) if name else config
        return found if isinstance(found, Mapping) else {}

    def with_prefix(self, prefix: str) -> list[str]:
        return [key for key in self.shapes if key.startswith(prefix)]


@dataclass(frozen=True)
class Choices:
    """What the user says about a file whose keys do not settle everything.

    Attributes:
        format: name of the format; None recognises it.
        assume: what is to be assumed, as in {"bn": "after-relu"}; each format knows its own keys.
        mean, std: (R, G, B) in the format's own value range, in place of its own.
        rename: the format's name of a task -> the name it is to have, as in {"semseg": "segmentation"}.
        size_hw: of the images in pixels; None takes what is usual for the format.
    """

    format: str | None = None
    assume: Mapping[str, str] = field(default_factory=dict)
    mean: Triple | None = None
    std: Triple | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    size_hw: tuple[int, int] | None = None

    @property
    def settle(self) -> bool:
        """Whether they say anything about the file's meaning."""
        return bool(self.format or self.assume or self.mean or self.std or self.rename)


@dataclass(frozen=True)
class Plan:
    """What a foreign file means: our network, and where each of its weights comes from.

    Attributes:
        variant: one line for people: backbone, fusion, what is special.
        network, tasks, preprocess, size_hw: as in a checkpoint.
        layers: part of our network -> the file's layers.
        stacked: our weight -> scalars of the file that make it, in row-major order.
        parameter: (file's layer, our parameter's name, whether it is a BatchNorm's) -> the file's key.
        twins: key -> key that must hold the same values.
        ignored: whether a key of the file means nothing for inference.
        assumed, dropped: sentences for people; what was assumed goes into every exported file.
    """

    variant: str
    network: NetworkConfig
    tasks: tuple[Task, ...]
    preprocess: Preprocess
    size_hw: tuple[int, int]
    layers: Mapping[str, Layers]
    stacked: Mapping[str, Sequence[str]] = field(default_factory=dict)
    parameter: Callable[[str, str, bool], str] = lambda layer, name, batchnorm: f"{layer}.{name}"
    twins: Mapping[str, str] = field(default_factory=dict)
    ignored: Callable[[str], bool] = lambda key: False
    assumed: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Importer:
    """One foreign format.

    Attributes:
        keys: an example of its keys, for the error when nothing is recognised.
        assumptions: what `--assume` may say -> the choices; none: a value of its own form.
        recognise: whether a file is, or may be, of this format.
        plan: what the file means. A pure function.
    """

    keys: str
    recognise: Callable[[Foreign], bool]
    plan: Callable[[Foreign, Choices], Plan]
    assumptions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def with_overrides(preprocess: Preprocess, choices: Choices) -> Preprocess:
    """The format's pre-processing with the user's mean and deviation in it.

    Raises:
        ConfigError: a mean outside the format's value range, or a deviation that is not positive.
    """
    high = round(255 * preprocess.scale)  # 255, or 1

    def in_order(values: Triple) -> Triple:
        red, green, blue = values
        return (blue, green, red) if preprocess.order == "bgr" else (red, green, blue)

    if choices.mean is not None:
        if not all(0 <= value <= high for value in choices.mean):
            raise ConfigError(f"mean: {choices.mean} is outside this format's value range, 0 to {high}.")
        preprocess = replace(preprocess, mean=in_order(choices.mean))
    if choices.std is not None:
        if not all(0 < value <= high for value in choices.std):
            raise ConfigError(f"std: {choices.std}: expected deviations above 0 in this format's range, to {high}.")
        preprocess = replace(preprocess, std=in_order(choices.std))
    return preprocess


def with_names(plan: Plan, names: Mapping[str, str]) -> Plan:
    """The plan with other names for its tasks; their order stays.

    Raises:
        ConfigError: it has no such task, or the new name cannot name one.
    """
    for old in names:
        if old not in {task.name for task in plan.tasks}:
            raise unknown_choice("rename", old, [task.name for task in plan.tasks])

    def new(name: str) -> str:
        return names.get(name, name)

    options = dict(plan.network.fusion_options)
    if "single_side" in options:
        options["single_side"] = [new(name) for name in options["single_side"]]
    return replace(
        plan,
        tasks=tuple(replace(task, name=new(task.name)) for task in plan.tasks),
        network=replace(plan.network, fusion_options=options),
        layers={".".join(map(new, part.split("."))): theirs for part, theirs in plan.layers.items()},
    )


def class_names(known: Sequence[Sequence[str]], count: int) -> tuple[str, ...]:
    """The list of names that has this length, else numbers."""
    return next((tuple(names) for names in known if len(names) == count), tuple(f"class {n}" for n in range(count)))
