"""Layers as formulas over a state dict, for tests that write a forward pass once more, without the modules."""

from __future__ import annotations

import torch
import torch.nn.functional as F

Weights = dict[str, torch.Tensor]


def convolve(x: torch.Tensor, w: Weights, key: str, *, stride: int = 1, rate: int = 1) -> torch.Tensor:
    weight = w[f"{key}.weight"]
    padding = rate * (weight.shape[2] // 2)
    return F.conv2d(x, weight, w.get(f"{key}.bias"), stride=stride, padding=padding, dilation=rate)


def normalise(x: torch.Tensor, w: Weights, key: str, eps: float) -> torch.Tensor:
    mean, var, weight, bias = (
        w[f"{key}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + eps) * weight + bias


def agree(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], share: float = 1e-5) -> bool:
    """Same tasks and shapes, and values that differ by less than a share of their range (float32 keeps about 1e-6)."""
    return found.keys() == expected.keys() and all(
        found[task].shape == truth.shape
        and bool((found[task] - truth).abs().max() <= share * (truth.max() - truth.min()))
        for task, truth in expected.items()
    )
