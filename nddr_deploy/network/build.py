"""From settings to a network."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from copy import deepcopy
from math import prod
from typing import Any

import torch
from torch import nn

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.network import options
from nddr_deploy.network.backbones import BACKBONES
from nddr_deploy.network.config import NetworkConfig
from nddr_deploy.network.fusion import FUSIONS, NoFusion
from nddr_deploy.network.heads import HEADS, Head
from nddr_deploy.network.network import MultiTaskNetwork
from nddr_deploy.network.shortcut import DepthMixing, Shortcut
from nddr_deploy.network.stage import Stage
from nddr_deploy.resize import CONVENTIONS
from nddr_deploy.tasks import Task

SHORTCUTS = ("none", "per_task", "shared")


def build_network(config: NetworkConfig, tasks: Sequence[Task]) -> MultiTaskNetwork:
    """The network of a config with one head per task, at its random start.

    Args:
        config: backbone, fusion, shortcut and heads with their options.
        tasks: in the order in which features are concatenated and outputs are returned.

    Raises:
        ConfigError: an unknown name or option, or a combination that makes no network.
    """
    names = _checked_names(tasks)
    if config.shortcut not in SHORTCUTS:
        raise unknown_choice("shortcut", config.shortcut, SHORTCUTS)
    if config.resize not in CONVENTIONS:
        raise unknown_choice("resize", config.resize, CONVENTIONS)
    if config.shortcut == "none" and config.shortcut_options:
        raise ConfigError(
            "shortcut_options were given, but shortcut is 'none'. Choose 'per_task' or 'shared', or remove them."
        )

    backbone = options.choose("backbone", config.backbone, BACKBONES)
    fusion = options.choose("fusion", config.fusion, FUSIONS)
    stream_of = {name: "shared" if config.fusion == "shared" else name for name in names}
    streams = tuple(dict.fromkeys(stream_of.values()))
    backbones = {
        stream: options.call("backbone_options", backbone, options=config.backbone_options) for stream in streams
    }
    stages = backbones[streams[0]]
    fused = _fused_stages(config, len(stages))

    fusion_options = dict(config.fusion_options)
    mixes_depth = config.fusion == "sluice" and _depth_mixing(fusion_options)
    shortcut = None
    if config.shortcut != "none":
        arguments = (names, stages, config.resize, config.shortcut == "shared")
        shortcut = options.call("shortcut_options", Shortcut, *arguments, options=config.shortcut_options)
    fusions = [
        options.call("fusion_options", fusion, streams, stage.channels, options=fusion_options)
        if number in fused
        else NoFusion(streams, stage.channels)
        for number, stage in enumerate(stages, start=1)
    ]
    heads = {task.name: _head(config, task, stages) for task in tasks}
    minimum, maximum = image_sides(stages, {head.map_side for head in heads.values() if head.map_side is not None})
    return MultiTaskNetwork(
        stream_of,
        [dict(zip(backbones, parts, strict=True)) for parts in zip(*backbones.values(), strict=True)],
        fusions,
        heads,
        shortcut=shortcut,
        depth_mixing=DepthMixing(names, stages, config.resize) if mixes_depth else None,
        minimum_side=minimum,
        maximum_side=maximum,
    )


def build_empty(config: NetworkConfig, tasks: Sequence[Task]) -> MultiTaskNetwork:
    """`build_network` without values: shapes alone, neither memory nor a random start."""
    with torch.device("meta"):
        return build_network(config, tasks)


def image_sides(stages: Sequence[Stage], map_sides: Collection[int]) -> tuple[int, int | None]:
    """The smallest and the largest height and width in pixels that the network takes; None: no largest.

    Args:
        stages: one stream's.
        map_sides: heights and widths of the last map that heads ask for; none: they take any.

    Raises:
        ConfigError: no image has such a map.
    """
    stages = outlines(stages)
    if not map_sides:
        return smallest_side(stages), None
    smallest, largest = first_side(stages, max(map_sides)), first_side(stages, min(map_sides) + 1) - 1
    if smallest > largest or last_map_side(stages, smallest) not in map_sides:
        raise ConfigError(
            f"pooled_head_options.map_side: no image has a last map of {min(map_sides)} pixels. Choose another side."
        )
    return smallest, largest


def smallest_side(stages: Sequence[Stage]) -> int:
    """The smallest height and width in pixels for which every stage makes a map; at least one cell of the last map."""
    cell = prod(stage.stride for stage in stages)
    return cell if last_map_side(stages, cell) else first_side(stages, 1)


def first_side(stages: Sequence[Stage], map_side: int) -> int:
    """The smallest height and width in pixels of an image whose last map has `map_side` pixels or more."""
    cell = prod(stage.stride for stage in stages)
    fewest, most = cell * (map_side - 1), cell * (map_side + 3)  # layers that do not pad need more than map_side cells
    return bisect_left(range(most), map_side, lo=fewest, key=lambda side: last_map_side(stages, side))


@torch.no_grad()
def last_map_side(stages: Sequence[nn.Module], side: int) -> int:
    """Height and width of the last stage's map for an image of this side; 0: a stage has nothing left to work on.

    Args:
        stages: from `outlines`.
    """
    try:
        x = torch.empty((2, 3, side, side), device="meta")
        for stage in stages:
            x = stage(x)
    except RuntimeError:  # what PyTorch raises for an output without pixels, and for more pixels than it can count
        return 0
    return x.shape[-1]


def outlines(stages: Sequence[Stage]) -> list[Stage]:
    """Copies that have the stages' shapes and no values; without BatchNorm, which changes no shape and takes long."""
    copies = []
    for stage in stages:
        tensors = (*stage.parameters(), *stage.buffers())
        empty: dict[int, torch.Tensor] = {id(tensor): torch.empty_like(tensor, device="meta") for tensor in tensors}
        copy = deepcopy(stage, empty)
        for name, layer in list(copy.named_modules()):
            if isinstance(layer, nn.BatchNorm2d):
                parent, _, leaf = name.rpartition(".")
                setattr(copy.get_submodule(parent), leaf, nn.Identity())
        copies.append(copy)
    return copies


def _checked_names(tasks: Sequence[Task]) -> tuple[str, ...]:
    names = tuple(task.name for task in tasks)
    if not names:
        raise ConfigError("A network needs at least one task; got none.")
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Two tasks are called {name!r}. Give each task its own name.")
        if not name or "." in name or hasattr(nn.ModuleDict, name):
            raise ConfigError(f"A task cannot be called {name!r}: the name has a meaning in PyTorch. Choose another.")
    return names


def _fused_stages(config: NetworkConfig, count: int) -> Sequence[int]:
    """The numbers, from 1, of the stages that a fusion layer follows."""
    fused = config.fused_stages
    if fused is None:
        return range(1, count + 1)
    if FUSIONS[config.fusion] is NoFusion:
        raise ConfigError(
            f"fused_stages were given, but fusion is {config.fusion!r}. Choose a fusion layer, or remove them."
        )
    in_order = isinstance(fused, (list, tuple)) and list(fused) == [n for n in range(1, count + 1) if n in fused]
    if not (fused and in_order):
        raise ConfigError(
            f"fused_stages: got {fused}; expected a list of stages from 1 to {count}, in order and each once."
        )
    return fused


def _depth_mixing(fusion_options: dict[str, Any]) -> bool:
    """Take `depth_mixing`, the sluice option that belongs to the network and not to each layer, out of the options."""
    value = fusion_options.pop("depth_mixing", False)
    if not isinstance(value, bool):
        raise ConfigError(f"fusion_options.depth_mixing: expected true or false; got {value!r}.")
    return value


def _head(config: NetworkConfig, task: Task, stages: Sequence[Stage]) -> Head:
    pooled = task.head == "pooled"
    setting = "pooled_head" if pooled else "head"
    name = config.pooled_head if pooled else config.head
    head = options.choose(setting, name, HEADS)
    if head.output != task.head:
        fitting = ", ".join(key for key, value in HEADS.items() if value.output == task.head)
        raise ConfigError(
            f"{setting}: {name!r} makes a {head.output} output, but task {task.name!r} needs a {task.head} one. "
            f"Choose one of: {fitting}."
        )
    head_options = config.pooled_head_options if pooled else config.head_options
    known = {} if head.low_level_stage is None else {"stages": stages, "resize": config.resize}
    return options.call(f"{setting}_options", head, stages[-1].channels, task.channels, options=head_options, **known)
