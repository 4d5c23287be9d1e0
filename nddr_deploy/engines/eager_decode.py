"""`Task.decode` in PyTorch, for a GPU that should return results: what `graph.decoders` appends to a graph.

Shape letters: N batch; C channels; h, w raw; H, W image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nddr_deploy.errors import UnsupportedError
from nddr_deploy.network.resize import resize_bilinear
from nddr_deploy.resize import Convention
from nddr_deploy.tasks.base import Task
from nddr_deploy.tasks.normals import Normals

SMALLEST = float(torch.finfo(torch.float32).tiny)
# raw (N, C, h, w) or (N, C), the task, (N, C, h, w) -> (N, C, H, W)
Resized = Callable[[Tensor], Tensor]


def decode(raw: Tensor, task: Task, size_hw: tuple[int, int], convention: Convention) -> Tensor:
    """One task's raw output as full-size results in its unit.

    Args:
        raw: float32 (N, C, h, w) where dense, (N, C) where pooled.
        task: whose output it is.
        size_hw: (H, W) of the images.
        convention: in which raw maps are resized.

    Raises:
        UnsupportedError: a kind of task without a decoder here.
    """
    if task.kind not in DECODERS:
        raise UnsupportedError(
            f"{task.name}: tasks of kind {task.kind!r} cannot be decoded in PyTorch; these can: {', '.join(DECODERS)}. "
            "Ask for raw outputs."
        )
    return DECODERS[task.kind](raw, task, lambda maps: resize_bilinear(maps, *size_hw, convention))


def _labels(raw: Tensor, task: Task, resized: Resized) -> Tensor:
    """uint8 (N, H, W); of equal scores the lowest class."""
    return resized(raw).argmax(1).to(torch.uint8)


def _normals(raw: Tensor, task: Normals, resized: Resized) -> Tensor:
    """Unit vectors (N, H, W, 3); (0, 0, -1) where there is no direction. See `resample.colour_normals` for colours."""
    components, signs = task.camera
    coloured = task.coding == "colour"
    vectors = resized(torch.stack([raw[:, component] for component in components], 1))
    if coloured:
        vectors = vectors.relu()
    largest = vectors.abs().amax(1, keepdim=True)  # by which first: the square of a float32 may overflow or vanish
    unit = _unit(vectors / largest.clamp(min=SMALLEST))
    if coloured:
        total = unit.sum(1, keepdim=True)
        unit = _unit((total + (total * total - 2).relu().sqrt()) * unit - 1)
    turned = torch.stack([unit[:, at] * sign for at, sign in enumerate(signs)], 1)
    x, y, z = turned.unbind(1)
    nowhere = largest[:, 0] == 0
    return torch.stack([x.masked_fill(nowhere, 0), y.masked_fill(nowhere, 0), z.masked_fill(nowhere, -1)], -1)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / (vectors * vectors).sum(1, keepdim=True).sqrt()


def _metres(raw: Tensor, task: Task, resized: Resized) -> Tensor:
    """(N, H, W); negative values become 0."""
    return resized(raw).relu()[:, 0]


def _chances(raw: Tensor, task: Task, resized: Resized) -> Tensor:
    """Probabilities (N, H, W) of logits."""
    return resized(raw).sigmoid()[:, 0]


def _years(raw: Tensor, task: Task, resized: Resized) -> Tensor:
    """(N,): the expected value over classes 0, 1, 2, ..."""
    years = torch.arange(task.channels, dtype=torch.float32, device=raw.device)
    return (raw.softmax(1) * years).sum(1)


def _probabilities(raw: Tensor, task: Task, resized: Resized) -> Tensor:
    """(N, C) of logits."""
    return raw.softmax(1)


DECODERS: dict[str, Callable[[Tensor, Any, Resized], Tensor]] = {
    "segmentation": _labels,
    "normals": _normals,
    "depth": _metres,
    "binary": _chances,
    "age": _years,
    "classification": _probabilities,
}
