"""The dilated ResNets of Multi-Task-Learning-PyTorch with NDDR: their keys, and their forward pass from formulas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from foreign_weights import IMAGENET, Image, Weights, conv, network_input, norm, resize
from torch import Tensor

EPS = 1e-5
ORDER = ("semseg", "human_parts", "sal", "normals", "edge", "depth")
CHANNELS = {"semseg": 21, "human_parts": 7, "sal": 1, "normals": 3, "edge": 1, "depth": 1}
STAGES = ("conv", "layer1_without_conv", "layer2", "layer3", "layer4")
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
STRIDES = (1, 2, 1, 1)
FIRST_DILATION = (1, 1, 1, 2)
DILATION = (1, 1, 2, 4)


@dataclass(frozen=True)
class ResNet:
    """A variant: what follows from keys and shapes.

    `fused`: names of the stages after which features are fused.
    """

    tasks: tuple[str, ...]
    depth: int = 18
    width: float = 1 / 16
    fused: tuple[str, ...] = STAGES
    semseg_classes: int = 40

    def channels(self, full: int) -> int:
        return int(full * self.width)

    def stage_channels(self) -> dict[str, int]:
        """Of the features after each stage, by the names a fusion there may have."""
        factor = 4 if self.depth == 50 else 1
        stem, *layers = (self.channels(full) for full in (64, 64, 128, 256, 512))
        after = [stem, *(factor * layer for layer in layers)]
        return dict(zip(STAGES, after, strict=True)) | {"layer1": after[1]}


def weights_of(variant: ResNet, seed: int = 0, size_hw: tuple[int, int] = (64, 96)) -> Weights:
    """The model's state dict, without `module.`, task by task in the order of `variant.tasks`."""
    weights = Weights(seed)
    after = variant.stage_channels()
    for task in variant.tasks:
        _add_backbone(weights, variant, f"backbone.{task}")
    for stage in variant.fused:
        for task in variant.tasks:
            own = in_order(variant.tasks).index(task)
            weights.mix(f"nddr.{stage}.layer.{task}.0", after[stage], len(variant.tasks), own)
            weights.norm(f"nddr.{stage}.layer.{task}.1", after[stage])
    for task in variant.tasks:
        classes = variant.semseg_classes if task == "semseg" else CHANNELS[task]
        _add_head(weights, f"heads.{task}", after["layer4"], variant.channels(256), classes)
    weights.measure(lambda image: forward(weights, image, variant), size_hw)
    return weights


def in_order(tasks: Iterable[str]) -> list[str]:
    """The order of concatenation, whatever the order of the keys."""
    return [task for task in ORDER if task in set(tasks)]


def _add_backbone(weights: Weights, variant: ResNet, prefix: str) -> None:
    stem = variant.channels(64)
    weights.conv(f"{prefix}.conv1", stem, 3, 7)
    weights.norm(f"{prefix}.bn1", stem)
    into = stem
    for n, (blocks, full) in enumerate(zip(BLOCKS[variant.depth], (64, 128, 256, 512), strict=True), 1):
        narrow = variant.channels(full)
        out = narrow * (4 if variant.depth == 50 else 1)
        for b in range(blocks):
            block = f"{prefix}.layer{n}.{b}"
            steps = [(out, into, 3), (out, out, 3)]
            if variant.depth == 50:
                steps = [(narrow, into, 1), (narrow, narrow, 3), (out, narrow, 1)]
            for i, (outputs, inputs, side) in enumerate(steps, 1):
                weights.conv(f"{block}.conv{i}", outputs, inputs, side)
                weights.norm(f"{block}.bn{i}", outputs, scale=0.4 if i == len(steps) else 1)
            if b == 0 and (into != out or STRIDES[n - 1] != 1):
                weights.conv(f"{block}.downsample.0", out, into)
                weights.norm(f"{block}.downsample.1", out)
            into = out


def _add_head(weights: Weights, prefix: str, into: int, width: int, classes: int) -> None:
    for branch in range(5):
        side, conv_at = (3 if branch in (1, 2, 3) else 1), (1 if branch == 4 else 0)
        weights.conv(f"{prefix}.0.convs.{branch}.{conv_at}", width, into, side)
        weights.norm(f"{prefix}.0.convs.{branch}.{conv_at + 1}", width)
    weights.conv(f"{prefix}.0.project.0", width, 5 * width)
    weights.norm(f"{prefix}.0.project.1", width)
    weights.conv(f"{prefix}.1", width, width, 3)
    weights.norm(f"{prefix}.2", width)
    weights.last(f"{prefix}.4", classes, width)


def forward(
    weights: Weights,
    image: Image,
    variant: ResNet,
    *,
    eps: float = EPS,
    order: Sequence[str] | None = None,
    first_dilations: Sequence[int] = FIRST_DILATION,
) -> dict[str, Tensor]:
    """Raw outputs (1, C, h, w) by task, in order. What follows `variant` are wrong readings, for the proof."""
    tasks = list(order) if order is not None else in_order(variant.tasks)
    streams = dict.fromkeys(tasks, network_input(image, *IMAGENET, scale=1 / 255))
    for n in range(5):
        streams = {task: _stage(weights, x, variant, task, n, eps, first_dilations) for task, x in streams.items()}
        name = "layer1" if n == 1 and "layer1" in variant.fused else STAGES[n]
        if name in variant.fused:
            every = torch.cat([streams[task] for task in tasks], 1)
            fusions = {task: f"nddr.{name}.layer.{task}" for task in tasks}
            streams = {task: _unit(weights, every, f"{key}.0", f"{key}.1", eps) for task, key in fusions.items()}
    return {task: _head(weights, streams[task], f"heads.{task}", eps) for task in tasks}


def _stage(
    weights: Weights, x: Tensor, variant: ResNet, task: str, stage: int, eps: float, first_dilations: Sequence[int]
) -> Tensor:
    prefix = f"backbone.{task}"
    if stage == 0:
        x = _unit(weights, x, f"{prefix}.conv1", f"{prefix}.bn1", eps, stride=2, padding=3)
        return F.max_pool2d(x, 3, 2, 1)
    for b in range(BLOCKS[variant.depth][stage - 1]):
        first = first_dilations[stage - 1] if b == 0 else DILATION[stage - 1]
        stride = STRIDES[stage - 1] if b == 0 else 1
        x = _block(weights, x, f"{prefix}.layer{stage}.{b}", eps, stride, first, DILATION[stage - 1])
    return x


def _block(weights: Weights, x: Tensor, name: str, eps: float, stride: int, first: int, other: int) -> Tensor:
    """`first`, `other`: dilation of the block's first 3x3 convolution and of its second, where it has one."""
    shortcut = x
    if f"{name}.downsample.0.weight" in weights:
        shortcut = conv(x, weights, f"{name}.downsample.0", stride=stride)
        shortcut = norm(shortcut, weights, f"{name}.downsample.1", eps)
    wide = {"stride": stride, "padding": first, "dilation": first}
    if f"{name}.conv3.weight" in weights:
        x = _unit(weights, x, f"{name}.conv1", f"{name}.bn1", eps)
        x = _unit(weights, x, f"{name}.conv2", f"{name}.bn2", eps, **wide)
        x = norm(conv(x, weights, f"{name}.conv3"), weights, f"{name}.bn3", eps)
    else:
        x = _unit(weights, x, f"{name}.conv1", f"{name}.bn1", eps, **wide)
        x = norm(conv(x, weights, f"{name}.conv2", padding=other, dilation=other), weights, f"{name}.bn2", eps)
    return F.relu(x + shortcut)


def _head(weights: Weights, x: Tensor, prefix: str, eps: float) -> Tensor:
    branch = f"{prefix}.0.convs"
    parts = [_unit(weights, x, f"{branch}.0.0", f"{branch}.0.1", eps)]
    for i, d in ((1, 12), (2, 24), (3, 36)):
        parts.append(_unit(weights, x, f"{branch}.{i}.0", f"{branch}.{i}.1", eps, padding=d, dilation=d))
    everywhere = _unit(weights, x.mean((2, 3), keepdim=True), f"{branch}.4.1", f"{branch}.4.2", eps)
    parts.append(everywhere.expand(-1, -1, *x.shape[2:]))
    x = _unit(weights, torch.cat(parts, 1), f"{prefix}.0.project.0", f"{prefix}.0.project.1", eps)
    x = _unit(weights, x, f"{prefix}.1", f"{prefix}.2", eps, padding=1)
    return conv(x, weights, f"{prefix}.4")


def _unit(weights: Weights, x: Tensor, convolution: str, bn: str, eps: float, **options: int) -> Tensor:
    return F.relu(norm(conv(x, weights, convolution, **options), weights, bn, eps))


def upsampled(raw: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return resize(raw, size_hw, align_corners=False)
