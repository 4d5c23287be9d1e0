"""Bilinear resizing in PyTorch, in the three conventions. Plain operators, so that it trains and exports."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import fx, nn

from nddr_deploy.errors import unknown_choice
from nddr_deploy.resize import CONVENTIONS, Convention


class Resize(nn.Module):
    """Resize a map to the size of another one.

    Shapes:
        x: (N, C, h, w) float; reference: (N, *, H, W), or (H, W) as two whole numbers -> (N, C, H, W) float.

    Raises:
        ConfigError: the convention is unknown.
    """

    def __init__(self, convention: Convention) -> None:
        super().__init__()
        if convention not in CONVENTIONS:
            raise unknown_choice("resize", convention, CONVENTIONS)
        self.convention = convention

    def forward(self, x: torch.Tensor, reference: torch.Tensor | tuple[int, int]) -> torch.Tensor:
        height, width = reference if isinstance(reference, tuple) else (reference.shape[2], reference.shape[3])
        return resize_bilinear(x, height, width, self.convention)

    def extra_repr(self) -> str:
        return self.convention


def resize_bilinear(x: torch.Tensor, height: int, width: int, convention: str) -> torch.Tensor:
    """(N, C, h, w) -> (N, C, height, width); see `nddr_deploy.resize` for the conventions."""
    if convention == "asymmetric":  # PyTorch has no operator for it
        return _asymmetric(_asymmetric(x, 2, height), 3, width)
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=convention == "align_corners")


fx.wrap("resize_bilinear")  # a leaf for torch.fx, which cannot trace torch.arange of a size


def _asymmetric(x: torch.Tensor, dim: int, size_out: int) -> torch.Tensor:
    """One axis: read at i * size_in / size_out. Whole numbers, so the fraction has no rounding error."""
    size_in = x.shape[dim]
    position = torch.arange(size_out, device=x.device) * size_in
    lower = position // size_out
    upper = (lower + 1).clamp(max=size_in - 1)
    fraction = ((position % size_out) / size_out).reshape((-1, 1) if dim == 2 else (-1,))
    return torch.lerp(x.index_select(dim, lower), x.index_select(dim, upper), fraction.to(x.dtype))
