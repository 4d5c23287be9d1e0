"""What each task's raw output is trained with. To add a loss: write it here, and a line in `LOSSES`.

A loss is a mean over valid pixels or images, so its weight does not depend on how much is labelled. Here it comes as a
sum and what to divide by: the valid pixels of a whole step may lie in several parts of a batch, and on several
processes. Where nothing is valid the sum is 0, with a zero gradient.

Shape letters: N batch, C channels, H, W the size of targets, h, w the size of raw maps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nddr_deploy.resize import Convention, Grid
from nddr_deploy.tasks.base import IGNORE_LABEL

SHORTEST = 1e-8  # where a vector is no longer divided by its length


@dataclass(frozen=True)
class Loss:
    """One kind of loss.

    Attributes:
        total: raw and target -> (), the sum over all valid pixels or images.
        valid: target -> bool, one for each pixel or image: which of them count. Nothing else may decide that.
    """

    total: Callable[[Tensor, Tensor], Tensor]
    valid: Callable[[Tensor], Tensor]


def cross_entropy(raw: Tensor, target: Tensor) -> Tensor:
    """Softmax cross-entropy.

    Shapes:
        dense: raw (N, C, H, W), target (N, H, W) of labels, 255 = ignore.
        pooled: raw (N, C), target (N,) of classes.

    Source:
        Gao et al., NDDR-CNN, CVPR 2019, section 4.1.
    """
    if raw.ndim == 2:
        return F.cross_entropy(raw, target.long(), reduction="sum")
    if raw.device.type == "cpu" or not torch.are_deterministic_algorithms_enabled():
        return F.cross_entropy(raw, target.long(), ignore_index=IGNORE_LABEL, reduction="sum")
    return cross_entropy_of_rows(raw, target)


def cross_entropy_of_rows(raw: Tensor, target: Tensor) -> Tensor:
    """The same for dense outputs; what follows the softmax has a deterministic CUDA kernel only for rows of pixels."""
    rows = F.log_softmax(raw, dim=1).movedim(1, -1).reshape(-1, raw.shape[1])
    return F.nll_loss(rows, target.reshape(-1).long(), ignore_index=IGNORE_LABEL, reduction="sum")


def cosine(raw: Tensor, target: Tensor) -> Tensor:
    """1 - cosine of the angle, over pixels whose target is not (0, 0, 0).

    Shapes:
        raw (N, 3, H, W) of any length, target (N, H, W, 3) unit vectors. A head that had learned the directions of
        colours (`tasks.Normals.coding`) learns those of normals from here on.

    Source:
        Gao et al., NDDR-CNN, CVPR 2019, section 4.1: l2 between unit vectors, which is twice this.
    """
    # On a CPU, training step and all, several times faster than F.cosine_similarity; the same limit for short vectors.
    truth = target.movedim(-1, 1).contiguous()
    along = (raw * truth).sum(dim=1)
    squares = (raw * raw).sum(dim=1) * (truth * truth).sum(dim=1)
    return _sum_where(1 - along * squares.clamp(min=SHORTEST**2).rsqrt(), directed(target))


def l1(raw: Tensor, target: Tensor) -> Tensor:
    """|raw - target| in metres, over pixels with a measured depth. raw (N, 1, H, W), target (N, H, W), 0 = missing."""
    return _sum_where((raw[:, 0] - target).abs(), measured(target))


def relative_l1(raw: Tensor, target: Tensor) -> Tensor:
    """|raw - target| / target, what AbsRel measures: near surfaces count more. Shapes as in `l1`."""
    valid = measured(target)
    return _sum_where((raw[:, 0] - target).abs() / target.where(valid, torch.ones_like(target)), valid)


def binary_cross_entropy(raw: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits, over labelled pixels. raw (N, 1, H, W), target (N, H, W): 0 no, 1 yes, 255 = ignore."""
    truth = (target == 1).to(raw.dtype)
    apart = F.binary_cross_entropy_with_logits(raw[:, 0], truth, reduction="none")
    return _sum_where(apart, labelled(target))


def age_cross_entropy(raw: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy over years as classes. raw (N, C), target (N,) float years; half a year rounds to even.

    Source:
        Gao et al., NDDR-CNN, CVPR 2019, section 4.1.
    """
    return F.cross_entropy(raw, target.round().long(), reduction="sum")


def labelled(target: Tensor) -> Tensor:
    """Every pixel that is not 255; every image, whose classes may be more."""
    return target != IGNORE_LABEL if target.ndim > 1 else every_image(target)


def directed(target: Tensor) -> Tensor:
    """(N, H, W, 3) -> (N, H, W): where a normal is not (0, 0, 0)."""
    return (target != 0).any(dim=-1)


def measured(target: Tensor) -> Tensor:
    """Where a depth is more than 0."""
    return target > 0


def every_image(target: Tensor) -> Tensor:
    return torch.ones_like(target, dtype=torch.bool)


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(cross_entropy, labelled),
    "cosine": Loss(cosine, directed),
    "l1": Loss(l1, measured),
    "relative_l1": Loss(relative_l1, measured),
    "binary_cross_entropy": Loss(binary_cross_entropy, labelled),
    "age_cross_entropy": Loss(age_cross_entropy, every_image),
}


def reduce_target(target: Tensor, size_hw: tuple[int, int], convention: Convention) -> Tensor:
    """The targets (N, H, W, ...) at the centres of a raw map's (h, w) pixels: the nearest one to each.

    Source:
        The released code, which trains at the network's resolution.
    """
    full_hw = target.shape[1], target.shape[2]
    grid = Grid.between(full_hw, size_hw, convention)
    rows, columns = (torch.from_numpy(axis.round()).long().to(target.device) for axis in (grid.rows, grid.columns))
    return target.index_select(1, rows).index_select(2, columns)


def _sum_where(values: Tensor, valid: Tensor) -> Tensor:
    return values.where(valid, torch.zeros_like(values)).sum()
