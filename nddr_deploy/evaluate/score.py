"""An engine against a labelled data set: the same metrics for every kind of model file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nddr_deploy.data.base import Dataset
from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import InputError
from nddr_deploy.evaluate.run_samples import run_samples
from nddr_deploy.evaluate.shared_tasks import shared_tasks
from nddr_deploy.preprocess import FitMode
from nddr_deploy.progress import progress_bar
from nddr_deploy.tasks.base import Metric

Scores = dict[str, dict[str, float]]


def score(
    engine: Engine,
    dataset: Dataset,
    *,
    limit: int | None = None,
    fit: FitMode = "letterbox",
    progress: bool = False,
) -> Scores:
    """Run every sample through the engine and score each task at the sample's own size.

    Tasks that the model or the data set lacks are left out, and normals in axes that are not known; `shared_tasks`
    says which those are.

    >>> score(open_engine("model.onnx"), open_dataset("rooms", "val"))       # doctest: +SKIP
    {"segmentation": {"mIoU": 0.61, "PAcc": 0.84}, "normals": {"mean": 11.8, ...}}

    Args:
        engine: of any backend; its outputs raw or decoded.
        dataset: labelled samples of any size.
        limit: score only the first samples; None is all of them.
        fit: how a sample is laid into the model's image: "letterbox" keeps its shape, "stretch" fills the image.
        progress: show a progress bar on stderr, if that is a terminal.

    Returns:
        Task name -> metric name -> value over all samples, in the units of `Task.metric`.

    Raises:
        InputError: no samples, no task to score, or one that means something else in the data (other classes).
    """
    metrics = measure(engine, dataset, range(samples_to_score(dataset, limit)), fit=fit, progress=progress)
    return {name: metric.result() for name, metric in metrics.items()}


def measure(
    engine: Engine, dataset: Dataset, indices: Sequence[int], *, fit: FitMode = "letterbox", progress: bool = False
) -> dict[str, Metric]:
    """`score`, of any samples of the data set: the metrics of each task, which have seen these samples.

    Raises:
        InputError: no task to score, or one that means something else in the data (other classes).
    """
    tasks, _ = shared_tasks(engine.manifest, dataset)
    metrics = {task.name: task.metric() for task in tasks}
    samples = (dataset[index] for index in indices)
    with progress_bar("evaluate", len(indices), shown=progress) as advance:
        for result in run_samples(engine.infer, samples, engine.manifest, fit):
            decoded = result.decoded()
            for name, metric in metrics.items():
                metric.update(decoded[name], np.asarray(result.sample.targets[name]))
            advance(1)
    return metrics


def samples_to_score(dataset: Dataset, limit: int | None) -> int:
    """How many of the first samples are scored; InputError where that is none."""
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1:
        raise InputError(
            f"There is nothing to score: the data set has {len(dataset)} samples and the limit is {limit}."
        )
    return count
