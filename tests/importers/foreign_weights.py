"""Random weights that look trained, and the layers that read them by name: nothing of `nddr_deploy` in here.

BatchNorm statistics are measured on a picture, as training does, and then moved a little. So activations stay of order
one in every network, however deep and narrow, and no statistic is 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Image = np.ndarray[Any, np.dtype[np.uint8]]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Weights(dict[str, Tensor]):
    """The tensors of a network by key, in the order in which they were made."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)
        self.unmeasured: set[int] = set()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def conv(self, name: str, out: int, into: int, side: int = 1, *, bias: bool = False, gain: float = 1.0) -> None:
        """He-scaled. Channels differ in strength by up to 4, so some variances are small and an epsilon shows."""
        strength = 0.5 * 4 ** self.uniform(0, 1, out, 1, 1, 1)
        scale = gain * (2 / (into * side * side)) ** 0.5
        self[f"{name}.weight"] = scale * strength * self.normal(out, into, side, side)
        if bias:
            self[f"{name}.bias"] = 0.5 * self.normal(out)

    def mix(self, name: str, out: int, inputs: int, own: int, *, bias: bool = False) -> None:
        """A 1x1 convolution of `inputs` tasks' features that grew from a diagonal: own 0.9, others 0.1."""
        self.conv(name, out, inputs * out, bias=bias)
        for task in range(inputs):
            block = self[f"{name}.weight"][:, task * out : (task + 1) * out, 0, 0]
            block += (0.9 if task == own else 0.1) * torch.eye(out)

    def norm(self, name: str, channels: int, scale: float = 1.0) -> None:
        """A BatchNorm. Its statistics are to be measured. `scale`: residual branches are mostly weaker than 1."""
        self[f"{name}.weight"] = scale * (1 + 0.3 * self.normal(channels))
        self[f"{name}.weight"][::5] *= -1
        self[f"{name}.bias"] = 0.3 * self.normal(channels)
        self[f"{name}.running_mean"] = torch.zeros(channels)
        self[f"{name}.running_var"] = torch.ones(channels)
        self[f"{name}.num_batches_tracked"] = torch.tensor(20000)

    def linear(self, name: str, out: int, into: int) -> None:
        """The last layer of a task: one by one as a matrix, with bias."""
        self[f"{name}.weight"] = (1 / into) ** 0.5 * self.normal(out, into)
        self[f"{name}.bias"] = 0.5 * self.normal(out)

    def last(self, name: str, out: int, into: int) -> None:
        """The last layer of a dense task: a 1x1 convolution with bias."""
        self.linear(name, out, into)
        self[f"{name}.weight"] = self[f"{name}.weight"][:, :, None, None].clone()

    def measure(self, forward: Callable[[Image], object], size_hw: tuple[int, int]) -> None:
        """Set all statistics from what `forward` does with four random pictures."""
        self.unmeasured = {id(tensor) for tensor in self.values()}
        forward(np.stack([picture(size_hw, seed) for seed in range(96, 100)]))
        self.unmeasured.clear()

    def measured(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of every channel, each moved as if other pictures had been seen."""
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        variance = variance.clamp(min=0.1 * float(x.square().mean()))  # a channel may be all zeros after a ReLU
        moved = mean + 0.3 * variance.sqrt() * self.normal(len(mean))
        return moved, variance * self.uniform(0.6, 1.6, len(mean))


def conv(x: Tensor, weights: Weights, name: str, **options: int) -> Tensor:
    """`options`: stride, padding, dilation."""
    return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), **options)


def norm(x: Tensor, weights: Weights, name: str, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, per channel."""
    if id(weights[f"{name}.running_mean"]) in weights.unmeasured:  # once, also where two streams share it
        weights.unmeasured.remove(id(weights[f"{name}.running_mean"]))
        mean, variance = weights.measured(x)
        weights[f"{name}.running_mean"].copy_(mean)  # in place: a tensor may have two names
        weights[f"{name}.running_var"].copy_(variance)
    mean, variance, weight, bias = (
        weights[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + eps) * weight + bias


def picture(size_hw: tuple[int, int], seed: int = 0) -> Image:
    """A random uint8 RGB image (H, W, 3): half noise, half blocks of colour, so that neither scale is missed."""
    generator = np.random.default_rng(seed)
    height, width = size_hw
    noise = generator.integers(0, 256, (height, width, 3))
    blocks = generator.integers(0, 256, (-(-height // 16), -(-width // 16), 3)).repeat(16, 0).repeat(16, 1)
    return ((noise + blocks[:height, :width]) // 2).astype(np.uint8)


def network_input(image: Image, mean: Any, std: Any = (1, 1, 1), *, scale: float = 1, order: str = "rgb") -> Tensor:
    """(value * scale - mean) / std, (N, 3, H, W), mean and std in the order of `order`; N is 1 for one image."""
    image = image.reshape(-1, *image.shape[-3:])
    values = torch.from_numpy(image if order == "rgb" else image[..., ::-1].copy()).float()
    return ((values * scale - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)


def resize(x: Tensor, size_hw: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Bilinear: corners on corners, or pixel centres at halves."""
    return F.interpolate(x, size_hw, mode="bilinear", align_corners=align_corners)


def resize_unshifted(x: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Bilinear as TensorFlow 1: source = target * in / out, clamped at the last line."""
    for axis, size in zip((2, 3), size_hw, strict=True):
        lines = x.shape[axis]
        source = torch.arange(size, dtype=torch.float64) * lines / size
        first = source.floor().long().clamp(max=lines - 1)
        second = (first + 1).clamp(max=lines - 1)
        share = (source - first).float().reshape([-1 if i == axis else 1 for i in range(4)])
        x = (1 - share) * x.index_select(axis, first) + share * x.index_select(axis, second)
    return x
