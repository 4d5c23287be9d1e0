"""A network that is being trained, as an engine: validation uses the same code and the same metrics as `nddr-eval`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from nddr_deploy.engines.base import Engine
from nddr_deploy.evaluate.score import Scores
from nddr_deploy.manifest import Manifest
from nddr_deploy.network import MultiTaskNetwork
from nddr_deploy.network.image_input import ImageModel
from nddr_deploy.preprocess import Image, Preprocess
from nddr_deploy.resize import Convention
from nddr_deploy.tasks.base import Array, Task

BATCH = 8


class NetworkInTraining(Engine):
    """Runs the network where it is, in evaluation mode, and leaves it in training mode.

    Args:
        network: its weights are read, never changed.
        preprocess: of its images.
        size_hw: of the images it validates on.
        resize: the network's convention.
    """

    backend = "torch"
    precision = "fp32"

    def __init__(
        self,
        network: MultiTaskNetwork,
        tasks: Sequence[Task],
        *,
        preprocess: Preprocess,
        size_hw: tuple[int, int],
        resize: Convention,
    ) -> None:
        self.manifest = Manifest(tasks=tuple(tasks), preprocess=preprocess, size_hw=size_hw, batch=BATCH, resize=resize)
        self.threads = torch.get_num_threads()
        self._model: ImageModel | None = ImageModel(network, preprocess)
        self._device = next(network.parameters()).device
        self.device = str(self._device)

    def __enter__(self) -> NetworkInTraining:
        self._held(self._model).eval()
        return self

    def _run(self, images: Image) -> dict[str, Array]:
        model = self._held(self._model)
        with torch.inference_mode():
            outputs = model(torch.from_numpy(images).to(self._device))
        return {task.name: outputs[task.name].float().cpu().numpy() for task in self.manifest.tasks}

    def close(self) -> None:
        if self._model is not None:
            self._model.train()
            self._model = None


def merit(scores: Scores, tasks: Sequence[Task]) -> float:
    """One number for "better", higher is better: the mean over tasks of the logarithm of the headline metric.

    It is negated where lower is better. So a relative change counts the same whatever the task's unit: the difference
    of two merits is the logarithm of the (geometric) mean relative gain. A metric that is NaN makes it -inf.
    """
    gains = []
    for task in tasks:
        value = _headline(scores, task)
        if np.isnan(value):
            return -np.inf
        gains.append(np.log(max(value, 1e-9)) * (1 if task.higher_is_better else -1))
    return float(np.mean(gains))


def _headline(scores: Mapping[str, Mapping[str, float]], task: Task) -> float:
    return scores[task.name][task.headline]
