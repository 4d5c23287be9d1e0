"""`Task.decode` as layers of the graph: raw outputs -> full-size results in the task's unit.

Shape letters: N batch; C channels; h, w raw; H, W image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nddr_deploy.errors import UnsupportedError
from nddr_deploy.network.resize import Resize
from nddr_deploy.resize import Convention
from nddr_deploy.tasks.base import Task


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
    """(N, 3, h, w) of any length -> unit vectors (N, H, W, 3); a zero vector becomes (0, 0, -1)."""

    toward_camera: Tensor

    def __init__(self, task: Task, resize: Convention) -> None:
        super().__init__()
        self.resize = Resize(resize)
        self.register_buffer("toward_camera", torch.tensor([0.0, 0.0, -1.0]).reshape(1, 3, 1, 1))

    def forward(self, raw: Tensor, image: Tensor) -> Tensor:
        vectors = self.resize(raw, image)
        length = (vectors * vectors).sum(1, keepdim=True).sqrt()
        return torch.where(length > 0, vectors / length, self.toward_camera).permute(0, 2, 3, 1)


class DecodeDepth(nn.Module):
    """(N, 1, h, w) -> metres (N, H, W); negative values become 0."""

    def __init__(self, task: Task, resize: Convention) -> None:
        super().__init__()
        self.resize = Resize(resize)

    def forward(self, raw: Tensor, image: Tensor) -> Tensor:
        metres: Tensor = self.resize(raw, image)
        return metres.relu()[:, 0]


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


DECODERS: dict[str, Callable[[Task, Convention], nn.Module]] = {
    "segmentation": DecodeLabels,
    "normals": DecodeNormals,
    "depth": DecodeDepth,
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
