"""Weights from other files into a network: ImageNet backbones, and single-task networks (the paper's best start)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from nddr_deploy.errors import ConfigError, ModelFileError, unknown_choice
from nddr_deploy.network.network import MultiTaskNetwork

Weights = Mapping[str, torch.Tensor]
COUNTER = "num_batches_tracked"  # of BatchNorm: counts training steps, means nothing here


@dataclass(frozen=True)
class LoadReport:
    """What a load did.

    Attributes:
        loaded: keys of the network that took their value from the file.
        missing: keys of the loaded parts that the file does not have; they keep their start.
        unused: keys of the file that the network has no place for.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]


def load_backbone(network: MultiTaskNetwork, weights: Weights, streams: Sequence[str] | None = None) -> LoadReport:
    """Put a torchvision classifier's weights into every stream, and its hidden layers into VGG-like pooled heads.

    Files of vgg16 and vgg16_bn both fit a VGG with or without bias. A bias that the network lacks moves into the
    BatchNorm behind it: into its mean where the file has BatchNorm, else into its bias.

    Args:
        weights: with torchvision's key names.
        streams: which ones; None: all.

    Raises:
        ConfigError: a stream that the network does not have.
        ModelFileError: a convolution is missing or of another shape, or a value is not finite; the first key is named.
    """
    for stream in streams or ():
        if stream not in network.streams:
            raise unknown_choice("streams", stream, network.streams)
    loaded: list[str] = []
    missing: list[str] = []
    used: set[str] = set()
    for stream in streams or network.streams:
        wanted: dict[str, torch.Tensor] = {}
        key_of: dict[str, str] = {}
        for number, stage in enumerate(network.stages_of(stream)):
            for key, tensor in stage.state_dict().items():
                wanted[key], key_of[key] = tensor, f"stages.{number}.{stream}.{key}"
        given, taken = _in_our_form(weights, wanted)
        for key, tensor in wanted.items():
            if key in given:
                _copy(tensor, given[key], key)
                loaded.append(key_of[key])
            elif tensor.ndim == 4:
                first = next(iter(weights), "nothing")
                raise ModelFileError(
                    f"The weight file does not have {key!r}, which the backbone needs; its first key is {first!r}. "
                    "Give the file of this backbone, with torchvision's key names."
                )
            elif not key.endswith(COUNTER):
                missing.append(key_of[key])
        used |= taken
    for task, stream in network.stream_of.items():
        if stream in (streams or network.streams):
            for name, key in _load_classifier(network, task, weights):
                loaded.append(name)
                used.add(key)
    unused = [key for key in weights if key not in used and not key.endswith(COUNTER)]
    return LoadReport(tuple(loaded), tuple(missing), tuple(unused))


def load_single_task(network: MultiTaskNetwork, weights_of: Mapping[str, Weights]) -> LoadReport:
    """Start each task's stream and head from a network that was trained on that task alone: the paper's best start.

    Fusion layers keep their own start. A per-task shortcut is taken over where both networks have one.

    Args:
        weights_of: task name -> that network's state dict (this package's keys).

    Raises:
        ConfigError: the network has no such task, or no stream of its own for it.
        ModelFileError: a key is missing or of another shape, or a value is not finite; the first key is named.
    """
    loaded: list[str] = []
    missing: list[str] = []
    unused: list[str] = []
    ours = network.state_dict()
    for task, weights in weights_of.items():
        if task not in network.stream_of:
            raise unknown_choice("single-task weights", task, network.tasks)
        if network.stream_of[task] != task:
            raise ConfigError(
                f"Task {task!r} shares its stream with other tasks. Start a shared trunk with `load_backbone`."
            )
        stream, head = (_only_name(weights, task, level, part) for level, part in ((2, "stages"), (1, "heads")))
        theirs = {f"stages.{n}.{task}.": f"stages.{n}.{stream}." for n in range(len(network.stages))}
        theirs[f"heads.{task}."] = f"heads.{head}."
        optional_parts = {f"{part}.layers.{task}.": f"{part}.layers.{head}." for part in ("shortcut", "depth_mixing")}
        taken: set[str] = set()
        for prefix, source in {**theirs, **optional_parts}.items():
            for key in (key for key in ours if key.startswith(prefix)):
                found = source + key.removeprefix(prefix)
                if found in weights:
                    _copy(ours[key], weights[found], found)
                    loaded.append(key)
                    taken.add(found)
                elif prefix in theirs:
                    raise ModelFileError(
                        f"The single-task weights of {task!r} do not have {found!r}. "
                        "Expected a network with the same backbone and head."
                    )
                else:
                    missing.append(key)
        unused.extend(key for key in weights if key not in taken)
    return LoadReport(tuple(loaded), tuple(missing), tuple(unused))


def load_streams(network: MultiTaskNetwork, weights: Weights) -> LoadReport:
    """Start every stream from the one stream of another network; heads and fusion layers keep their own start.

    So both streams can start from a network for segmentation, as in the upper row of Table 3, and a shared trunk from
    one for any task.

    Args:
        weights: that network's state dict (this package's keys); it has one stream.

    Raises:
        ConfigError: the other network has several streams.
        ModelFileError: a key is missing or of another shape, or a value is not finite; the first key is named.
    """
    streams = sorted({key.split(".")[2] for key in weights if key.startswith("stages.") and key.count(".") > 2})
    if len(streams) != 1:
        raise ConfigError(
            f"Expected a network with one stream for all streams to start from; this one has {len(streams)}"
            f"{': ' + ', '.join(streams) if streams else ''}. Start with start.single_task, or give another file."
        )
    loaded: list[str] = []
    taken: set[str] = set()
    for key, tensor in network.state_dict().items():
        if key.startswith("stages."):
            parts = key.split(".")
            found = ".".join([*parts[:2], streams[0], *parts[3:]])
            if found not in weights:
                raise ModelFileError(f"The file does not have {found!r}. Expected a network with the same backbone.")
            _copy(tensor, weights[found], found)
            loaded.append(key)
            taken.add(found)
    return LoadReport(tuple(loaded), (), tuple(key for key in weights if key not in taken))


def _only_name(weights: Weights, task: str, level: int, part: str) -> str:
    """What the task is called in a file: its own name where that is there, else the only name."""
    names = {key.split(".")[level] for key in weights if key.startswith(f"{part}.") and key.count(".") > level}
    return next(iter(names)) if task not in names and len(names) == 1 else task


def _in_our_form(weights: Weights, wanted: Weights) -> tuple[dict[str, torch.Tensor], set[str]]:
    """The file's tensors under the network's keys, and the file's keys that were used for them."""
    theirs, ours = _numbers(weights), _numbers(wanted)
    if len(theirs) != len(ours):
        theirs = ours = []
    renumbered = {
        f"features.{number + offset}.": f"features.{our_number + offset}."
        for number, our_number in zip(theirs, ours, strict=True)
        for offset in (0, 1)  # the convolution, and the BatchNorm behind it
        if offset == 0 or f"features.{number + 1}.running_mean" in weights
    }
    given: dict[str, torch.Tensor] = {}
    origin: dict[str, str] = {}
    for key, tensor in weights.items():
        prefix = ".".join(key.split(".")[:2]) + "."
        name = key.replace(prefix, renumbered.get(prefix, prefix), 1)
        given[name], origin[name] = tensor, key
    taken = {origin[name] for name in given if name in wanted}
    for number in ours:
        weight, mean = f"features.{number}.weight", f"features.{number + 1}.running_mean"
        bias, bn_bias = f"features.{number}.bias", f"features.{number + 1}.bias"
        if mean in given and mean not in wanted:
            raise ModelFileError(
                f"The weight file has BatchNorm behind {origin[weight]!r}, this backbone has none. "
                "Set backbone_options.batchnorm to true, or give a file without BatchNorm."
            )
        if bias in given and bias not in wanted:
            taken.add(origin[bias])
            if mean in given:
                given[mean] = given[mean] - given[bias]
            else:
                given[bn_bias] = given[bias]
    return given, taken


def _numbers(weights: Weights) -> list[int]:
    """The numbers N of `features.N.weight` that are convolutions."""
    parts = [key.split(".") for key, tensor in weights.items() if key.startswith("features.") and tensor.ndim == 4]
    return sorted(int(part[1]) for part in parts if part[1].isdigit() and part[2:] == ["weight"])


def _load_classifier(network: MultiTaskNetwork, task: str, weights: Weights) -> list[tuple[str, str]]:
    """The hidden layers of a VGG or AlexNet classifier, where the head has the same; (our key, the file's key)."""
    ours = network.heads[task].state_dict()
    # torchvision's AlexNet begins with a dropout, which shifts its numbers by one.
    shift = 0 if "classifier.0.weight" in weights else 1
    pairs = []
    for number in (0, 3):
        names = {f"classifier.{number}.{part}": f"classifier.{number + shift}.{part}" for part in ("weight", "bias")}
        if all(
            key in ours and name in weights and ours[key].shape == weights[name].shape for key, name in names.items()
        ):
            for key, name in names.items():
                _copy(ours[key], weights[name], name)
                pairs.append((f"heads.{task}.{key}", name))
    return pairs


def _copy(target: torch.Tensor, value: torch.Tensor, key: str) -> None:
    if target.shape != value.shape:
        raise ModelFileError(
            f"{key!r} has the shape {tuple(value.shape)} in the file; the network needs {tuple(target.shape)}. "
            "Give the file of this network, or change its options (width, batchnorm, ...)."
        )
    if not torch.isfinite(value).all():
        raise ModelFileError(f"{key!r} holds values that are not finite. Give a file of a training that succeeded.")
    with torch.no_grad():
        target.copy_(value)
