"""A network that is being trained, as an engine: validation uses the same code and the same metrics as `nddr-eval`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from nddr_deploy.data.base import Dataset
from nddr_deploy.engines.base import Engine
from nddr_deploy.evaluate.bootstrap import result_of
from nddr_deploy.evaluate.score import Scores, measure, samples_to_score
from nddr_deploy.manifest import Manifest
from nddr_deploy.network.image_input import ImageModel
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array, Metric, Task
from nddr_deploy.training.batchnorm import to_training_mode
from nddr_deploy.training.processes import Processes
from nddr_deploy.training.state import Training

if TYPE_CHECKING:
    from nddr_deploy.training.record import Record

BATCH = 8


class NetworkInTraining(Engine):
    """Runs the network where it is, in evaluation mode, and leaves it in training mode. Changes no weight.

    Args:
        batch: images per pass.
    """

    backend = "torch"

    def __init__(self, training: Training, batch: int = BATCH) -> None:
        about = training.about
        self.manifest = Manifest(
            tasks=about["tasks"],
            preprocess=about["preprocess"],
            size_hw=about["size_hw"],
            batch=batch,
            resize=about["network"].resize,
        )
        self._batchnorm = training.batchnorm
        amp = training.accelerator.mixed_precision
        self.precision = "fp32" if amp == "no" else amp
        self.threads = torch.get_num_threads()
        self._device = training.accelerator.device
        self.device = str(self._device)
        self._model: ImageModel | None = ImageModel(training.model, about["preprocess"]).to(self._device)

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
            to_training_mode(self._model, self._batchnorm)
            self._model = None


def validate(training: Training, dataset: Dataset, record: Record, *, limit: int | None = None) -> bool:
    """Score the network and note the scores; every process takes its share of the samples.

    Returns:
        Whether this is the best validation so far.
    """
    processes, tasks = training.processes, training.about["tasks"]
    for buffer in training.model.buffers():  # BatchNorm's statistics of its own images; saved are the first one's
        processes.copy_from_first(buffer)
    with processes.together():
        training.check_weights()
        share = range(processes.index, samples_to_score(dataset, limit), processes.count)
        with NetworkInTraining(training) as engine:
            metrics = measure(engine, dataset, share)
    training.scores = {
        task.name: _result(task, metrics[task.name], processes) for task in tasks if task.name in metrics
    }
    value = merit(training.scores, tasks)
    better = value > training.best
    if better:
        training.best, training.best_step = value, training.step
    record.validation(training.step, training.scores, best=better)
    return better


def _result(task: Task, metric: Metric, processes: Processes) -> dict[str, float]:
    """What a metric says of the samples of all processes. Of several, medians are from bins; see `Metric.add`."""
    if processes.count == 1:
        return metric.result()
    return result_of(task, processes.sum(torch.from_numpy(metric.state())).numpy())


def merit(scores: Scores, tasks: Sequence[Task]) -> float:
    """One number for "better", higher is better: the mean over tasks of the logarithm of the headline metric.

    It is negated where lower is better. So a relative change counts the same whatever the task's unit: the difference
    of two merits is the logarithm of the (geometric) mean relative gain. A metric that is NaN makes it -inf.
    """
    gains = []
    for task in tasks:
        value = scores[task.name][task.headline]
        if np.isnan(value):
            return -np.inf
        gains.append(np.log(max(value, 1e-9)) * (1 if task.higher_is_better else -1))
    return float(np.mean(gains))
