"""What a model makes of one sample beside the truth, as pictures and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nddr_deploy.data.base import Sample
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array, Task


@dataclass(frozen=True)
class View:
    """One picture of a comparison.

    Attributes:
        title: "image", or as in "depth, truth".
        picture: RGB uint8 (H, W, 3), of the sample's size.
        smooth: whether neighbours may be averaged; colours that stand for something may not.
    """

    title: str
    picture: Image
    smooth: bool = False


@dataclass(frozen=True)
class Comparison:
    """A sample with what a model says of it.

    Attributes:
        name: of the sample.
        views: the image, then prediction and truth of each dense task.
        words: what pooled tasks say, as in "age 34, truth: age 31".
    """

    name: str
    views: tuple[View, ...]
    words: tuple[str, ...] = ()


def compare(sample: Sample, decoded: Mapping[str, Array], tasks: Sequence[Task]) -> Comparison:
    """Prediction and truth of each task; a task that the sample has no truth for shows its prediction alone.

    Args:
        decoded: task name -> result in the task's unit, at the sample's size.
    """
    views, words = [View("image", sample.image, smooth=True)], []
    for task in tasks:
        result, target = decoded[task.name], sample.targets.get(task.name)
        if task.head == "pooled":
            truth = "" if target is None else f", truth: {truth_words(task, target)}"
            words.append(f"{task.caption(result)}{truth}")
            continue
        views.append(View(f"{task.name}, prediction", task.render(result, sample.image)))
        if target is not None:
            views.append(View(f"{task.name}, truth", task.render(np.asarray(target), sample.image)))
    return Comparison(sample.name, tuple(views), tuple(words))


def truth_words(task: Task, target: Array) -> str:
    """The target of a pooled task in a few words."""
    if task.kind == "classification":
        return str(task.options()["classes"][int(target)])
    return task.caption(target)
