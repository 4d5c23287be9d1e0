"""A result in a few numbers, for JSON lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nddr_deploy.tasks.age import Age
from nddr_deploy.tasks.base import Array, Task
from nddr_deploy.tasks.binary import Binary
from nddr_deploy.tasks.classification import Classification
from nddr_deploy.tasks.depth import Depth
from nddr_deploy.tasks.normals import Normals
from nddr_deploy.tasks.segmentation import Segmentation


def summarise(task: Task, decoded: Array) -> dict[str, Any]:
    """JSON values.

    segmentation: share of the pixels per class that occurs. normals: share of the pixels per nearest axis direction
    (where the task's axes are not known, per colour of the pictures that grows or falls). depth: least, mean, median
    and greatest depth in metres. binary: mean probability, and the share of the pixels with a half or more. age: years.
    classification: the class and all probabilities. Any other task: mean of a dense result, values of a pooled one.
    """
    for kind, summary in SUMMARIES.items():
        if isinstance(task, kind):
            return summary(task, decoded)
    return {"mean": float(decoded.mean())} if task.head == "dense" else {"values": np.atleast_1d(decoded).tolist()}


def _segmentation(task: Any, labels: Array) -> dict[str, Any]:
    shares = np.bincount(labels.ravel(), minlength=len(task.classes)) / labels.size
    return {
        "shares": {name: round(float(shares[index]), 6) for index, name in enumerate(task.classes) if shares[index]}
    }


def _normals(task: Any, normals: Array) -> dict[str, Any]:
    vectors = normals.reshape(-1, 3)
    axis = np.abs(vectors).argmax(axis=1)
    positive = np.take_along_axis(vectors, axis[:, None], axis=1)[:, 0] > 0
    # columns: -x, +x, -y, +y, -z, +z
    counts = np.bincount(2 * axis + positive, minlength=6) / max(len(vectors), 1)
    names: tuple[str, ...] = ("left", "right", "up", "down", "toward", "away")
    if task.axes is None:
        names = ("-red", "+red", "-green", "+green", "-blue", "+blue")
    return {"shares": {name: round(float(share), 6) for name, share in zip(names, counts, strict=True) if share}}


def _depth(task: Any, metres: Array) -> dict[str, Any]:
    figures = {"min_m": metres.min(), "mean_m": metres.mean(), "median_m": np.median(metres), "max_m": metres.max()}
    return {name: round(float(value), 4) for name, value in figures.items()}


def _binary(task: Any, probability: Array) -> dict[str, Any]:
    figures = {"mean": probability.mean(), "share": (probability >= 0.5).mean()}
    return {name: round(float(value), 6) for name, value in figures.items()}


def _age(task: Any, years: Array) -> dict[str, Any]:
    return {"years": round(float(years), 3)}


def _classification(task: Any, probabilities: Array) -> dict[str, Any]:
    named = zip(task.classes, probabilities.tolist(), strict=True)
    best = task.classes[int(np.argmax(probabilities))]
    return {"class": best, "probabilities": {name: round(value, 6) for name, value in named}}


SUMMARIES: dict[type[Task], Callable[[Any, Array], dict[str, Any]]] = {
    Segmentation: _segmentation,
    Normals: _normals,
    Depth: _depth,
    Binary: _binary,
    Age: _age,
    Classification: _classification,
}
