"""A contact sheet: what a data set looks like, with its labels."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from nddr_deploy.data.base import Dataset, Sample
from nddr_deploy.files import finished_file
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks import Task
from nddr_deploy.tasks.base import Array

BACK = 255
LEGEND = 96  # pixels high


def contact_sheet(dataset: Dataset, count: int, columns: int = 2) -> Image:
    """The first samples, each as a strip: the picture, then its targets (pooled ones as text). A legend below.

    Returns:
        RGB uint8 (H, W, 3).
    """
    from nddr_deploy.tasks.drawing import draw_badge, draw_legend, on_white, side_by_side

    strips = []
    for index in range(min(count, len(dataset))):
        sample = dataset[index]
        dense = [task for task in dataset.tasks if task.head == "dense"]
        panels = [sample.image, *(task.render(np.asarray(sample.targets[task.name]), sample.image) for task in dense)]
        captions = [task.caption(_decoded(task, sample)) for task in dataset.tasks if task.head == "pooled"]
        panels += [draw_badge(sample.image, captions)] if captions else []
        strips.append(side_by_side(panels))
    height, width = max(strip.shape[0] for strip in strips), max(strip.shape[1] for strip in strips)
    strips = [on_white(strip, height, width) for strip in strips]
    while len(strips) % columns:
        strips.append(np.full_like(strips[0], BACK))
    rows = [_beside(strips[start : start + columns]) for start in range(0, len(strips), columns)]
    legends = [(task.name, task.legend()) for task in dataset.tasks if task.legend()]
    if legends:
        width = rows[0].shape[1]
        band = np.full((LEGEND, width // len(legends), 3), 32, np.uint8)
        parts = [draw_badge(draw_legend(band, legend), [name]) for name, legend in legends]
        rows.append(on_white(_beside(parts), LEGEND, width))
    return np.concatenate(rows)


def write_preview(dataset: Dataset, path: str | os.PathLike[str], count: int = 12) -> None:
    """Write `contact_sheet` as a picture; the suffix chooses the format.

    Raises:
        InputError: the file cannot be written.
    """
    from PIL import Image as pillow

    sheet = contact_sheet(dataset, count)
    with finished_file(path) as temporary:
        pillow.fromarray(sheet).save(temporary)


def _decoded(task: Task, sample: Sample) -> Array:
    """The target in the form that `Task.render` draws: probabilities for a classification."""
    target = np.asarray(sample.targets[task.name])
    return np.eye(task.channels, dtype=np.float32)[target] if task.kind == "classification" else target


def _beside(panels: Sequence[Image]) -> Image:
    return np.concatenate(panels, axis=1)
