"""The two-stream VGG-16 of MTLNAS and NDDR-CNN-PyTorch: its keys, and its forward pass from formulas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from foreign_weights import Image, Weights, conv, network_input, norm, resize
from torch import Tensor

EPS = 1e-3
MEAN = (122.67891434, 116.66876762, 104.00698793)
WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
FEATURES = {5: (0, 8, 16, 27, 37), 13: (0, 3, 6, 11, 14, 19, 22, 25, 30, 33, 36, 40, 43)}
POOLS_FIRST = {2: "D", 4: "D", 7: "D", 10: "M"}  # of 13 stages, from 0
NAMES = {1: "segmentation", 2: "normals"}


@dataclass(frozen=True)
class Vgg:
    """A variant: what the file's cfg and keys say.

    `fusion`: nddr, cross_stitch, single_side or single_side_reverse.
    """

    stages: int = 5
    fusion: str = "nddr"
    auxiliary: bool = False
    shortcut: bool = False
    bn_before_relu: bool = True
    bias: bool = False
    width: float = 1 / 16
    classes: tuple[int, int] = (40, 3)

    def channels(self, full: int) -> int:
        return int(full * self.width)

    @property
    def stage_widths(self) -> list[list[int]]:
        """Output channels of every convolution, by stage."""
        by_five = [[self.channels(width) for width in stage] for stage in WIDTHS]
        return by_five if self.stages == 5 else [[width] for stage in by_five for width in stage]

    def convolutions(self, stage: int) -> list[int]:
        """Index of every convolution in its stage; its BatchNorm is the next one."""
        if self.stages == 5:
            return [3 * i for i in range(len(WIDTHS[stage]))]
        return [{"D": 2, "M": 1}.get(POOLS_FIRST.get(stage, ""), 0)]

    @property
    def head(self) -> tuple[int, int, int]:
        """Index of the head's convolutions: with 13 stages two pools come first."""
        return (0, 4, 8) if self.stages == 5 else (2, 6, 10)


def weights_of(variant: Vgg, seed: int = 0, size_hw: tuple[int, int] = (64, 96)) -> Weights:
    """The model's state dict, twins included."""
    weights = Weights(seed)
    for t in (1, 2):
        into = 3
        for s, widths in enumerate(variant.stage_widths):
            for i, out in zip(variant.convolutions(s), widths, strict=True):
                layer = f"net{t}.stages.{s}.feature"
                weights.conv(f"{layer}.{i}", out, into, 3, gain=1 if into > 3 else 1 / 64)
                weights.norm(f"{layer}.{i + 1}", out)
                into = out
        for s, offset in enumerate(FEATURES[variant.stages]):
            prefix = f"net{t}.stages.{s}.feature."
            for key in [key for key in weights if key.startswith(prefix)]:
                index, rest = key.removeprefix(prefix).split(".", 1)
                weights[f"net{t}.features.{int(index) + offset}.{rest}"] = weights[key]
        first, second, last = (f"net{t}.head.{i}" for i in variant.head)
        wide = variant.channels(1024)
        weights.conv(first, wide, into, 3)
        weights.norm(_next(first), wide)
        weights.conv(second, wide, wide)
        weights.norm(_next(second), wide)
        weights.last(last, variant.classes[t - 1], wide)
    for s, widths in enumerate(variant.stage_widths):
        _add_fusion(weights, variant, f"nddrs.nddrs.{s}", widths[-1])
    if variant.shortcut:
        inputs = sum(widths[-1] for widths in variant.stage_widths)
        out = variant.stage_widths[-1][-1]
        weights.conv("nddrs.shortcut.0", out, inputs)
        weights.norm(f"nddrs.shortcut.{1 if variant.bn_before_relu else 2}", out)
    if variant.auxiliary:
        wide = variant.channels(1024)
        for t in (1, 2):
            weights.conv(f"aux_conv{t}.0", wide, variant.channels(512), 3)
            weights.norm(f"aux_conv{t}.1", wide)
            weights.last(f"aux_conv{t}.4", variant.classes[t - 1], wide)
    weights.measure(lambda image: forward(weights, image, variant), size_hw)
    return weights


def _add_fusion(weights: Weights, variant: Vgg, name: str, channels: int) -> None:
    if variant.fusion == "cross_stitch":
        for key, value in {"a11": 0.8, "a12": -0.6, "a21": 0.3, "a22": 0.5}.items():
            weights[f"{name}.{key}"] = torch.tensor(value)
    elif variant.fusion == "nddr":
        for t in (1, 2):
            weights.mix(f"{name}.conv{t}", channels, 2, own=t - 1, bias=variant.bias)
            weights.norm(f"{name}.bn{t}", channels)
    else:
        weights.mix(f"{name}.conv", channels, 2, own=0)
        weights.norm(f"{name}.bn", channels)


def forward(
    weights: Weights,
    image: Image,
    variant: Vgg,
    *,
    mean: tuple[float, float, float] = MEAN,
    eps: float = EPS,
    swapped: bool = False,
    corners: bool = True,
    zero_padding: bool = True,
) -> dict[str, Tensor]:
    """Raw outputs (1, C, h, w) by task. What follows `mean` are wrong readings, for the proof that they show."""
    x = network_input(image, mean)
    streams = [x, x]
    fused: list[list[Tensor]] = []
    for s in range(variant.stages):
        streams = [_stage(weights, x, variant, t, s, eps, zero_padding) for t, x in enumerate(streams, 1)]
        streams = _fuse(weights, streams, variant, f"nddrs.nddrs.{s}", eps, swapped)
        fused.append(streams)
    if variant.shortcut:
        streams = [_shortcut(weights, [stage[t] for stage in fused], variant, eps, corners) for t in (0, 1)]
    return {NAMES[t]: _head(weights, x, variant, t, eps) for t, x in enumerate(streams, 1)}


def _stage(weights: Weights, x: Tensor, variant: Vgg, task: int, stage: int, eps: float, zero_padding: bool) -> Tensor:
    pool = POOLS_FIRST.get(stage) if variant.stages == 13 else None
    x = _pool(x, pool, zero_padding)
    dilation = 2 if stage >= (4 if variant.stages == 5 else 10) else 1
    for i in variant.convolutions(stage):
        name = f"net{task}.stages.{stage}.feature.{i}"
        x = F.relu(norm(conv(x, weights, name, padding=dilation, dilation=dilation), weights, _next(name), eps))
    if variant.stages == 13:
        return x
    return _pool(x, ("D", "D", "D", "M", "MA")[stage], zero_padding)


def _pool(x: Tensor, kinds: str | None, zero_padding: bool) -> Tensor:
    for kind in kinds or "":
        if kind == "D":
            x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=0.0 if zero_padding else -torch.inf), 3, 2)
        elif kind == "M":
            x = F.max_pool2d(x, 3, 1, 1)
        else:
            x = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return x


def _fuse(weights: Weights, streams: list[Tensor], variant: Vgg, name: str, eps: float, swapped: bool) -> list[Tensor]:
    first, second = streams
    if variant.fusion == "cross_stitch":
        a11, a12, a21, a22 = (weights[f"{name}.{key}"] for key in ("a11", "a12", "a21", "a22"))
        if swapped:
            a12, a21 = a21, a12
        return [a11 * first + a21 * second, a12 * first + a22 * second]
    if variant.fusion == "nddr":
        both = torch.cat([second, first] if swapped else [first, second], 1)
        return [_activated(weights, both, variant, f"{name}.conv{t}", f"{name}.bn{t}", eps) for t in (1, 2)]
    own, other = (second, first) if variant.fusion == "single_side" else (first, second)
    both = torch.cat([other, own] if swapped else [own, other], 1)
    mixed = norm(conv(both, weights, f"{name}.conv"), weights, f"{name}.bn", eps)
    return [first, mixed] if variant.fusion == "single_side" else [mixed, second]


def _activated(weights: Weights, x: Tensor, variant: Vgg, convolution: str, bn: str, eps: float) -> Tensor:
    x = conv(x, weights, convolution)
    if variant.bn_before_relu:
        return F.relu(norm(x, weights, bn, eps))
    return norm(F.relu(x), weights, bn, eps)


def _shortcut(weights: Weights, stages: list[Tensor], variant: Vgg, eps: float, corners: bool) -> Tensor:
    size = tuple(stages[-1].shape[2:])
    same = [resize(x, (size[0], size[1]), align_corners=corners) for x in stages[:-1]]
    bn = f"nddrs.shortcut.{1 if variant.bn_before_relu else 2}"
    return _activated(weights, torch.cat([*same, stages[-1]], 1), variant, "nddrs.shortcut.0", bn, eps)


def _head(weights: Weights, x: Tensor, variant: Vgg, task: int, eps: float) -> Tensor:
    first, second, last = (f"net{task}.head.{i}" for i in variant.head)
    if variant.stages == 13:
        x = _pool(x, "MA", True)
    x = F.relu(norm(conv(x, weights, first, padding=12, dilation=12), weights, _next(first), eps))
    x = F.relu(norm(conv(x, weights, second), weights, _next(second), eps))
    return conv(x, weights, last)


def _next(name: str) -> str:
    """`head.4` -> `head.5`."""
    parent, index = name.rsplit(".", 1)
    return f"{parent}.{int(index) + 1}"


def mtlnas_cfg(variant: Vgg) -> dict[str, Any]:
    """What MTLNAS stores as `cfg`: the settings that matter, and some that do not."""
    return {
        "TASK": "pixel",
        "DATASET": "nyu_v2",
        "CUDA": True,
        "MODEL": {
            "SINGLETASK": False,
            "SHAREDFEATURE": False,
            "SUPERNET": False,
            "BACKBONE": f"VGG16_{variant.stages}_Stage" if variant.stages == 13 else "VGG16",
            "INIT": (0.9, 0.1),
            "NDDR_TYPE": "" if variant.fusion == "nddr" else variant.fusion,
            "NDDR_BN_TYPE": "default",
            "NET1_CLASSES": variant.classes[0],
            "NET2_CLASSES": variant.classes[1],
        },
        "ARCH": {"SEARCHSPACE": "", "INIT_TEMP": 1.0},
        "TRAIN": {"AUX": variant.auxiliary, "AUX_LAYERS": [], "LR": 0.001, "OUTPUT_SIZE": (321, 321)},
    }


def nddrpytorch_cfg(variant: Vgg) -> dict[str, Any]:
    return {
        "DATA_DIR": "datasets/nyu_v2",
        "IGNORE_LABEL": 255,
        "MODEL": {
            "SHORTCUT": variant.shortcut,
            "BN_BEFORE_RELU": variant.bn_before_relu,
            "NET1_CLASSES": variant.classes[0],
            "NET2_CLASSES": variant.classes[1],
        },
        "TRAIN": {"LR": 0.001, "WEIGHT_1": "DeepLab", "OUTPUT_SIZE": (321, 321)},
    }
