"""From what an engine returns to results in the frame's own pixels. The one place that does it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Fit
from nddr_deploy.tasks.base import Array, Task


def decode_outputs(outputs: Mapping[str, Array], index: int, manifest: Manifest, fit: Fit) -> dict[str, Array]:
    """Every task's result for one frame of a batch, in the task's unit and at the frame's size.

    A raw map is read directly at the frame's pixels: nothing is interpolated twice. A decoded map is resampled only
    where the frame is not exactly the model's image.

    Args:
        outputs: what `Engine.infer` returned: task name -> (N, ...).
        index: the frame's place in the batch.
        manifest: of the same engine: its tasks, whether outputs are raw or decoded, the resize convention.
        fit: how the frame was laid into the model's image; `fit.size_hw` is the size that the engine was given.

    Returns:
        Task name -> what `Task.decode` returns; dense results have `fit.frame_hw` as their size.
    """
    return {task.name: _decode(task, outputs[task.name][index], manifest, fit) for task in manifest.tasks}


def decode_batch(outputs: Mapping[str, Array], manifest: Manifest, size_hw: tuple[int, int]) -> dict[str, Array]:
    """Every task's results for a whole batch of frames that are just of the model's image size.

    Args:
        outputs, manifest: as for `decode_outputs`.
        size_hw: that the engine was given.

    Returns:
        Task name -> decoded results, N in front.
    """
    fit = Fit.of(size_hw, size_hw)
    count = len(next(iter(outputs.values())))
    decoded = [decode_outputs(outputs, index, manifest, fit) for index in range(count)]
    return {task.name: np.stack([sample[task.name] for sample in decoded]) for task in manifest.tasks}


def _decode(task: Task, output: Array, manifest: Manifest, fit: Fit) -> Array:
    if manifest.outputs == "raw":
        # raw maps are (C, h, w); a pooled vector has no place in the image
        grid = fit.grid((output.shape[1], output.shape[2]), manifest.resize) if task.head == "dense" else None
        return task.decode(output, grid)
    if task.head == "pooled":
        return np.asarray(output)
    return task.resample(output, fit.grid((output.shape[0], output.shape[1])))
