"""From settings to a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.network import options
from nddr_deploy.network.backbones import BACKBONES
from nddr_deploy.network.config import NetworkConfig
from nddr_deploy.network.fusion import FUSIONS
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

    fusion_options = dict(config.fusion_options)
    mixes_depth = config.fusion == "sluice" and _depth_mixing(fusion_options)
    shortcut = None
    if config.shortcut != "none":
        arguments = (names, stages, config.resize, config.shortcut == "shared")
        shortcut = options.call("shortcut_options", Shortcut, *arguments, options=config.shortcut_options)
    return MultiTaskNetwork(
        stream_of,
        [dict(zip(backbones, parts, strict=True)) for parts in zip(*backbones.values(), strict=True)],
        [options.call("fusion_options", fusion, streams, stage.channels, options=fusion_options) for stage in stages],
        {task.name: _head(config, task, stages[-1].channels) for task in tasks},
        shortcut=shortcut,
        depth_mixing=DepthMixing(names, stages, config.resize) if mixes_depth else None,
        minimum_side=smallest_side(stages),
    )


def smallest_side(stages: Sequence[Stage]) -> int:
    """The smallest height and width in pixels for which every stage makes a map; found by trying, without data."""

    def works(side: int) -> bool:
        x = torch.empty((2, 3, side, side), device="meta")
        try:
            for stage in stages:
                weights = {name: tensor.to("meta") for name, tensor in stage.state_dict().items()}
                x = torch.func.functional_call(stage, weights, (x,))
        except RuntimeError:  # what PyTorch raises for an output without pixels
            return False
        return True

    low, high = 0, 1  # low fails
    while high < 1024 and not works(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle, high)
    return high


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


def _depth_mixing(fusion_options: dict[str, Any]) -> bool:
    """Take `depth_mixing`, the sluice option that belongs to the network and not to each layer, out of the options."""
    value = fusion_options.pop("depth_mixing", False)
    if not isinstance(value, bool):
        raise ConfigError(f"fusion_options.depth_mixing: expected true or false; got {value!r}.")
    return value


def _head(config: NetworkConfig, task: Task, channels_in: int) -> Head:
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
    return options.call(f"{setting}_options", head, channels_in, task.channels, options=head_options)
