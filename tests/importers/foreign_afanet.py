"""AFANet's NDDR baselines, per pixel and per image: their keys, and their forward passes from formulas."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from foreign_weights import IMAGENET, Image, Weights, conv, network_input, norm, resize
from torch import Tensor

EPS = 1e-5
BLOCKS = (3, 4, 6, 3)
PIXEL = {"A": "segmentation", "B": "depth"}
IMAGE = {"A": "gender", "B": "age_group"}
PIXEL_CHANNELS = {"A": 40, "B": 1}
IMAGE_CLASSES = {"A": 2, "B": 8}
STRIDES = {"pixel": (1, 2, 2, 1), "image": (1, 2, 2, 2)}


def pixel_weights(width: float = 1 / 16, seed: int = 0, size_hw: tuple[int, int] = (64, 96)) -> Weights:
    weights = Weights(seed)
    _add_backbone(weights, "backbone.", width)
    wide, narrow, low = (int(full * width) for full in (2048, 256, 48))
    for t in "AB":
        for branch, side in (("aspp1", 1), ("aspp2", 3), ("aspp3", 3), ("aspp4", 3)):
            weights.conv(f"{t}_aspp.{branch}.atrous_conv", narrow, wide, side)
            weights.norm(f"{t}_aspp.{branch}.bn", narrow)
        weights.conv(f"{t}_aspp.global_avg_pool.1", narrow, wide)
        weights.norm(f"{t}_aspp.global_avg_pool.2", narrow)
        weights.conv(f"{t}_aspp.conv1", narrow, 5 * narrow)
        weights.norm(f"{t}_aspp.bn1", narrow)
        weights.conv(f"{t}_decoder.conv1", low, narrow)
        weights.norm(f"{t}_decoder.bn1", low)
        weights.conv(f"{t}_decoder.last_conv.0", narrow, narrow + low, 3)
        weights.norm(f"{t}_decoder.last_conv.1", narrow)
        weights.conv(f"{t}_decoder.last_conv.4", narrow, narrow, 3)
        weights.norm(f"{t}_decoder.last_conv.5", narrow)
        weights.last(f"{t}_decoder.my_classify", PIXEL_CHANNELS[t], narrow)
    weights.measure(lambda image: pixel_forward(weights, image), size_hw)
    return weights


def image_weights(width: float = 1 / 16, seed: int = 0, size_hw: tuple[int, int] = (200, 224)) -> Weights:
    weights = Weights(seed)
    _add_backbone(weights, "", width)
    for t in "AB":
        weights.linear(f"{t}_fc", IMAGE_CLASSES[t], int(2048 * width))
        weights[f"{t}_fc.weight"] *= 3  # an average over 49 pixels varies little between images
    weights.measure(lambda image: image_forward(weights, image), size_hw)
    return weights


def _add_backbone(weights: Weights, prefix: str, width: float) -> None:
    stem = int(64 * width)
    for t in "AB":
        weights.conv(f"{prefix}{t}_conv1", stem, 3, 7)
        weights.norm(f"{prefix}{t}_bn1", stem)
    into = stem
    for n, blocks in enumerate(BLOCKS, 1):
        narrow = int(64 * 2 ** (n - 1) * width)
        out = 4 * narrow
        for b in range(blocks):
            block = f"{prefix}layer{n}.{b}"
            for t in "AB":
                for i, (outputs, inputs, side) in enumerate(
                    [(narrow, into, 1), (narrow, narrow, 3), (out, narrow, 1)], 1
                ):
                    weights.conv(f"{block}.{t}_conv{i}", outputs, inputs, side)
                    weights.norm(f"{block}.{t}_bn{i}", outputs, scale=0.4 if i == 3 else 1)
            if b == 0:
                _add_downsample(weights, block, out, into)
            into = out
        for t in (1, 2):
            weights.mix(f"{prefix}NDDR_{n}.nddr_{t}", out, 2, own=t - 1)
            weights.norm(f"{prefix}NDDR_{n}.bn_{t}", out)


def _add_downsample(weights: Weights, block: str, out: int, into: int) -> None:
    """One module under two names."""
    weights.conv(f"{block}.A_downsample.0", out, into)
    weights.norm(f"{block}.A_downsample.1", out)
    for key in [key for key in weights if key.startswith(f"{block}.A_downsample.")]:
        weights[key.replace(".A_downsample.", ".B_downsample.")] = weights[key]


def _backbone(
    weights: Weights, x: Tensor, kind: str, prefix: str, eps: float, swapped: bool, grid: tuple[int, int, int]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The last fused features by stream, and layer1's output before its fusion. `grid`: layer4's dilations."""
    streams = {}
    for t in "AB":
        stem = _unit(weights, x, f"{prefix}{t}_conv1", f"{prefix}{t}_bn1", eps, stride=2, padding=3)
        streams[t] = F.max_pool2d(stem, 3, 2, 1)
    low: dict[str, Tensor] = {}
    for n, (blocks, stride) in enumerate(zip(BLOCKS, STRIDES[kind], strict=True), 1):
        for b in range(blocks):
            block = f"{prefix}layer{n}.{b}"
            dilation = grid[b] if n == 4 else 1
            streams = {
                t: _bottleneck(weights, x, block, t, eps, stride if b == 0 else 1, dilation) for t, x in streams.items()
            }
        low = low or streams
        both = torch.cat([streams[t] for t in ("BA" if swapped else "AB")], 1)
        streams = {
            t: _unit(weights, both, f"{prefix}NDDR_{n}.nddr_{i}", f"{prefix}NDDR_{n}.bn_{i}", eps)
            for i, t in enumerate("AB", 1)
        }
    return streams, low


def _bottleneck(weights: Weights, x: Tensor, block: str, t: str, eps: float, stride: int, dilation: int) -> Tensor:
    shortcut = x
    if f"{block}.{t}_downsample.0.weight" in weights:
        shortcut = conv(x, weights, f"{block}.{t}_downsample.0", stride=stride)
        shortcut = norm(shortcut, weights, f"{block}.{t}_downsample.1", eps)
    x = _unit(weights, x, f"{block}.{t}_conv1", f"{block}.{t}_bn1", eps)
    wide = {"stride": stride, "padding": dilation, "dilation": dilation}
    x = _unit(weights, x, f"{block}.{t}_conv2", f"{block}.{t}_bn2", eps, **wide)
    return F.relu(norm(conv(x, weights, f"{block}.{t}_conv3"), weights, f"{block}.{t}_bn3", eps) + shortcut)


def pixel_forward(
    weights: Weights,
    image: Image,
    *,
    mean: tuple[float, ...] = IMAGENET[0],
    std: tuple[float, ...] = IMAGENET[1],
    eps: float = EPS,
    swapped: bool = False,
    corners: bool = True,
    grid: tuple[int, int, int] = (2, 4, 8),
) -> dict[str, Tensor]:
    """Raw outputs (1, C, h, w) at stride 4, by task. What follows `std` are wrong readings, for the proof."""
    streams, low = _backbone(
        weights, network_input(image, mean, std, scale=1 / 255), "pixel", "backbone.", eps, swapped, grid
    )
    return {PIXEL[t]: _deeplab(weights, x, low[t], t, eps, corners) for t, x in streams.items()}


def _deeplab(weights: Weights, x: Tensor, low: Tensor, t: str, eps: float, corners: bool) -> Tensor:
    aspp, decoder = f"{t}_aspp", f"{t}_decoder"
    parts = [_unit(weights, x, f"{aspp}.aspp1.atrous_conv", f"{aspp}.aspp1.bn", eps)]
    for i, d in ((2, 6), (3, 12), (4, 18)):
        branch = f"{aspp}.aspp{i}"
        parts.append(_unit(weights, x, f"{branch}.atrous_conv", f"{branch}.bn", eps, padding=d, dilation=d))
    pool = f"{aspp}.global_avg_pool"
    everywhere = _unit(weights, x.mean((2, 3), keepdim=True), f"{pool}.1", f"{pool}.2", eps)
    parts.append(everywhere.expand(-1, -1, *x.shape[2:]))
    x = _unit(weights, torch.cat(parts, 1), f"{aspp}.conv1", f"{aspp}.bn1", eps)
    low = _unit(weights, low, f"{decoder}.conv1", f"{decoder}.bn1", eps)
    x = torch.cat([resize(x, (low.shape[2], low.shape[3]), align_corners=corners), low], 1)
    x = _unit(weights, x, f"{decoder}.last_conv.0", f"{decoder}.last_conv.1", eps, padding=1)
    x = _unit(weights, x, f"{decoder}.last_conv.4", f"{decoder}.last_conv.5", eps, padding=1)
    return conv(x, weights, f"{decoder}.my_classify")


def image_forward(weights: Weights, image: Image, *, eps: float = EPS, swapped: bool = False) -> dict[str, Tensor]:
    """Raw outputs (1, C) by task."""
    x = network_input(image, *IMAGENET, scale=1 / 255)
    streams, _ = _backbone(weights, x, "image", "", eps, swapped, (1, 1, 1))
    outputs = {}
    for t, x in streams.items():
        assert x.shape[2:] == (7, 7)
        outputs[IMAGE[t]] = F.linear(x.mean((2, 3)), weights[f"{t}_fc.weight"], weights[f"{t}_fc.bias"])
    return outputs


def _unit(weights: Weights, x: Tensor, convolution: str, bn: str, eps: float, **options: int) -> Tensor:
    return F.relu(norm(conv(x, weights, convolution, **options), weights, bn, eps))
