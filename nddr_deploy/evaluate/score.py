"""An engine against a labelled data set: the same metrics for every kind of model file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from nddr_deploy.data.base import Dataset, Sample
from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import InputError
from nddr_deploy.evaluate.decode import decode_outputs
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Fit, FitMode
from nddr_deploy.tasks.base import Array, Task
from nddr_deploy.tasks.normals import Normals

if TYPE_CHECKING:
    from rich.progress import Progress

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
    tasks, _ = shared_tasks(engine.manifest, dataset)
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1:
        raise InputError(
            f"There is nothing to score: the data set has {len(dataset)} samples and the limit is {limit}."
        )
    metrics = {task.name: task.metric() for task in tasks}
    with _bar(count) if progress and sys.stderr.isatty() else nullcontext() as bar:
        for samples in _batches(dataset, count, engine.manifest):
            for sample, decoded in _run(engine, samples, fit):
                for name, metric in metrics.items():
                    metric.update(decoded[name], np.asarray(sample.targets[name]))
            if bar is not None:
                bar.update(bar.task_ids[0], advance=len(samples))
    return {name: metric.result() for name, metric in metrics.items()}


def shared_tasks(manifest: Manifest, dataset: Dataset) -> tuple[tuple[Task, ...], dict[str, str]]:
    """The model's tasks that can be scored on the data set, and name -> reason of those that cannot.

    Raises:
        InputError: none can be scored, or a task of one name is of another kind or has other classes in the data.
    """
    labelled = {task.name: task for task in dataset.tasks}
    named = tuple(task for task in manifest.tasks if task.name in labelled)
    if not named:
        raise InputError(
            f"The model's tasks ({', '.join(task.name for task in manifest.tasks)}) and the data's "
            f"({', '.join(labelled)}) have no name in common. Choose data with targets for the model."
        )
    skipped = {task.name: "the data has no targets for it" for task in manifest.tasks if task.name not in labelled}
    for task in named:
        _check_meaning(task, labelled[task.name])
        if _in_unknown_axes(task, labelled[task.name]):
            skipped[task.name] = "its axes are not known, so it cannot be compared with normals in camera axes"
    shared = tuple(task for task in named if task.name not in skipped)
    if not shared:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise InputError(
            f"No task of the model can be scored on this data: {reasons}. "
            "Import the model again and say the axes of its normals."
        )
    return shared, skipped


def _in_unknown_axes(task: Task, target: Task) -> bool:
    """Whether angles between the two would mean nothing: only one of them is in the axes of the camera."""
    return isinstance(task, Normals) and isinstance(target, Normals) and (task.axes is None) != (target.axes is None)


def _check_meaning(task: Task, target: Task) -> None:
    if task.kind != target.kind:
        raise InputError(f"{task.name}: the model's is a {task.kind} task, the data's a {target.kind} task.")
    ours, theirs = (each.options().get("classes") for each in (task, target))
    if not isinstance(ours, list) or not isinstance(theirs, list) or ours == theirs:
        return  # ages are years whatever their number, and other tasks have no classes
    place = next(
        (index for index, (left, right) in enumerate(zip(ours, theirs, strict=False)) if left != right),
        min(len(ours), len(theirs)),
    )
    found, expected = (classes[place] if place < len(classes) else "no class" for classes in (theirs, ours))
    raise InputError(
        f"{task.name}: the model has {len(ours)} classes and the data {len(theirs)}; the first that differs is number "
        f"{place}: {expected!r} in the model, {found!r} in the data. "
        "Choose data with the model's classes, in its order."
    )


def _batches(dataset: Dataset, count: int, manifest: Manifest) -> Iterator[list[Sample]]:
    size = 1 if "batch" in manifest.dynamic else manifest.batch
    for start in range(0, count, size):
        yield [dataset[index] for index in range(start, min(start + size, count))]


def _run(engine: Engine, samples: list[Sample], mode: FitMode) -> Iterator[tuple[Sample, dict[str, Array]]]:
    manifest = engine.manifest
    fits = [Fit.of((sample.image.shape[0], sample.image.shape[1]), manifest.size_hw, mode) for sample in samples]
    padding = manifest.preprocess.mean_pixel
    images = [fit.apply(sample.image, padding) for fit, sample in zip(fits, samples, strict=True)]
    if "batch" not in manifest.dynamic:
        images += [images[-1]] * (manifest.batch - len(images))  # a fixed batch is filled up; what comes out is left
    outputs = engine.infer(np.stack(images))
    for index, (sample, fit) in enumerate(zip(samples, fits, strict=True)):
        yield sample, decode_outputs(outputs, index, manifest, fit)


def _bar(count: int) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("evaluate"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.add_task("evaluate", total=count)
    return bar
