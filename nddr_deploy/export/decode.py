"""`Task.decode` as layers of the graph: raw outputs -> full-size results in the task's unit.

Shape letters: N batch; C channels; h, w raw; H, W image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nddr_deploy.errors import UnsupportedError
from nddr_deploy.network.resize import Resize
from nddr_deploy.resize import Convention
from nddr_deploy.tasks.base import Task
from nddr_deploy.tasks.normals import Normals


class DecodeLabels(nn.Module):
    """Scores (N, C, h, w) -> uint8 (N, H, W), the lowest class where scores are equal.

    The labels leave through float32, because TensorRT 8.6 makes uint8 from nothing else.
    """

    def __init__(self, task: Task, resize: Convention) -> None:
        super().__init__()
        self.resize = Resize(resize)

    def forward(self, raw: Tensor, image: Tensor) -> Tensor:
        scores: Tensor = self.resize(raw, image)
        return scores.argmax(1).to(torch.float32).to(torch.uint8)


class DecodeNormals(nn.Module):
    """(N, 3, h, w) of any length -> unit vectors (N, H, W, 3) in camera axes, as far as the task knows them.

    A vector without a direction becomes (0, 0, -1). See `resample.colour_normals` for colours.
    """

    components: Tensor
    signs: Tensor
    toward_camera: Tensor

    def __init__(self, task: Normals, resize: Convention) -> None:
        super().__init__()
        self.resize = Resize(resize)
        self.coloured = task.coding == "colour"
        components, signs = task.camera
        self.ordered, self.along = components == (0, 1, 2), signs == (1, 1, 1)
        self.register_buffer("components", torch.tensor(components))
        self.register_buffer("signs", torch.tensor(signs, dtype=torch.float32).reshape(1, 3, 1, 1))
        self.register_buffer("toward_camera", torch.tensor([0.0, 0.0, -1.0]).reshape(1, 3, 1, 1))

    def forward(self, raw: Tensor, image: Tensor) -> Tensor:
        vectors = self.resize(raw if self.ordered else raw.index_select(1, self.components), image)
        if self.coloured:
            vectors = vectors.relu()
        length = _length(vectors)
        unit = vectors / length
        if self.coloured:
            total = unit.sum(1, keepdim=True)
            normal = (total + (total * total - 2).relu().sqrt()) * unit - 1
            unit = normal / _length(normal)
        if not self.along:
            unit = unit * self.signs
        return torch.where(length > 0, unit, self.toward_camera).permute(0, 2, 3, 1)


def _length(vectors: Tensor) -> Tensor:
    return (vectors * vectors).sum(1, keepdim=True).sqrt()


class DecodeDepth(nn.Module):
    """(N, 1, h, w) -> metres (N, H, W); negative values become 0."""

    def __init__(self, task: Task, resize: Convention) -> None:
        super().__init__()
        self.resize = Resize(resize)

    def forward(self, raw: Tensor, image: Tensor) -> Tensor:
        metres: Tensor = self.resize(raw, image)
        return metres.relu()[:, 0]


class DecodeChance(nn.Module):
    """(N, 1, h, w) logits -> probabilities (N, H, W)."""

    def __init__(self, task: Task, resize: Convention) -> None:
        super().__init__()
        self.resize = Resize(resize)

    def forward(self, raw: Tensor, image: Tensor) -> Tensor:
        logits: Tensor = self.resize(raw, image)
        return logits.sigmoid()[:, 0]


class DecodeAge(nn.Module):
    """(N, classes) -> years (N,): the expected value over classes 0, 1, 2, ..."""

    years: Tensor

    def __init__(self, task: Task, resize: Convention) -> None:
        super().__init__()
        self.register_buffer("years", torch.arange(task.channels, dtype=torch.float32))

    def forward(self, raw: Tensor, image: Tensor) -> Tensor:
        return raw.softmax(1) @ self.years


class DecodeProbabilities(nn.Module):
    """(N, C) logits -> probabilities (N, C)."""

    def __init__(self, task: Task, resize: Convention) -> None:
        super().__init__()

    def forward(self, raw: Tensor, image: Tensor) -> Tensor:
        return raw.softmax(1)


DECODERS: dict[str, Callable[[Any, Convention], nn.Module]] = {
    "segmentation": DecodeLabels,
    "normals": DecodeNormals,
    "depth": DecodeDepth,
    "binary": DecodeChance,
    "age": DecodeAge,
    "classification": DecodeProbabilities,
}


def decoder(task: Task, resize: Convention) -> nn.Module:
    """The layer that decodes this task's raw output; called with the raw output and the image (N, 3, H, W).

    Raises:
        UnsupportedError: no layer is written for this kind of task.
    """
    if task.kind not in DECODERS:
        raise UnsupportedError(
            f"{task.name}: tasks of kind {task.kind!r} cannot be decoded inside the graph; these can: "
            f"{', '.join(DECODERS)}. Export with --outputs raw."
        )
    return DECODERS[task.kind](task, resize)
