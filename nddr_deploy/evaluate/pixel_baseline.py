"""How far colour and position alone lead: a classifier that sees one pixel at a time.

What a network gains over it, it gains from context. A small perceptron in numpy, so that it is as strong as such a
classifier gets and needs no further package.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from nddr_deploy.data.base import Dataset, Sample
from nddr_deploy.errors import InputError
from nddr_deploy.tasks import Segmentation
from nddr_deploy.tasks.base import IGNORE_LABEL

Floats = npt.NDArray[np.float32]
HIDDEN = 64
PIXELS_PER_SAMPLE = 300
BATCH = 2048


def pixel_baseline(
    train: Dataset,
    test: Dataset,
    task: Segmentation,
    *,
    limit: int = 500,
    steps: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """Fit a perceptron from (R, G, B, x, y) of a pixel to its class, and score it on every pixel of the test samples.

    Rare classes weigh more (by the inverse root of their frequency), which raises mIoU.

    Args:
        train, test: samples with a target for `task`.
        task: names the target and its classes.
        limit: learn from that many training samples.
        steps: of training, each on 2048 of the chosen pixels; seven times as many gain nothing on `rooms`.
        seed: of the start and the choice of pixels.

    Returns:
        The task's metrics, as `task.metric().result()`.

    Raises:
        InputError: no training pixel is labelled.
    """
    rng = np.random.default_rng(seed)
    inputs, labels = _pixels(train, task, min(limit, len(train)), rng)
    weights = _fit(inputs, labels, task.channels, steps, rng)
    metric = task.metric()
    for index in range(len(test)):
        sample = test[index]
        height, width = sample.image.shape[:2]
        scores = _forward(weights, _features(sample).reshape(-1, 5))[-1]
        metric.update(scores.argmax(axis=1).astype(np.uint8).reshape(height, width), sample.targets[task.name])
    return metric.result()


def _features(sample: Sample) -> Floats:
    """(H, W, 5) in -1 .. 1: colour and position."""
    height, width = sample.image.shape[:2]
    features = np.empty((height, width, 5), dtype=np.float32)
    features[..., :3] = sample.image / np.float32(127.5) - 1
    features[..., 3] = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    features[..., 4] = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    return features


def _pixels(
    dataset: Dataset, task: Segmentation, count: int, rng: np.random.Generator
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Features (P, 5) and labels (P,) of pixels drawn from the first `count` samples."""
    features, labels = [], []
    for index in range(count):
        sample = dataset[index]
        target = np.asarray(sample.targets[task.name]).reshape(-1)
        chosen = rng.integers(0, target.size, PIXELS_PER_SAMPLE)
        chosen = chosen[target[chosen] != IGNORE_LABEL]
        features.append(_features(sample).reshape(-1, 5)[chosen])
        labels.append(target[chosen].astype(np.int64))
    if not sum(map(len, labels)):
        raise InputError(f"None of {count} training samples has a labelled pixel for {task.name}.")
    return np.concatenate(features), np.concatenate(labels)


def _fit(
    inputs: Floats, labels: npt.NDArray[np.int64], classes: int, steps: int, rng: np.random.Generator
) -> list[Floats]:
    """Weights and biases of three layers, by Adam on the weighted cross-entropy."""
    sizes = (inputs.shape[1], HIDDEN, HIDDEN, classes)
    weights: list[Floats] = []
    for size_in, size_out in pairwise(sizes):
        weights.append(rng.normal(0, (2 / size_in) ** 0.5, (size_in, size_out)).astype(np.float32))
        weights.append(np.zeros(size_out, dtype=np.float32))
    moments = [(np.zeros_like(weight), np.zeros_like(weight)) for weight in weights]
    share = np.bincount(labels, minlength=classes) / len(labels)
    importance = (1 / np.sqrt(np.maximum(share, 1e-4))).astype(np.float32)
    importance /= (importance * share).sum()
    for step, rows in enumerate(_batches(len(labels), steps, rng), start=1):
        rate = 3e-3 * (1 - step / (steps + 1))
        gradients = _gradients(weights, inputs[rows], labels[rows], importance[labels[rows]])
        for weight, (mean, square), gradient in zip(weights, moments, gradients, strict=True):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient**2 - square)
            unbiased = np.sqrt(square / (1 - 0.999**step)) + 1e-8
            weight -= np.float32(rate) * (mean / (1 - 0.9**step)) / unbiased
    return weights


def _batches(count: int, steps: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of each step: every pixel once before any comes again."""
    order = rng.permutation(count)
    start = 0
    for _ in range(steps):
        if start >= count:
            order, start = rng.permutation(count), 0
        yield order[start : start + BATCH]
        start += BATCH


def _forward(weights: list[Floats], inputs: Floats) -> list[Floats]:
    """Every layer's output; the last is the scores (P, C)."""
    first = np.maximum(inputs @ weights[0] + weights[1], 0)
    second = np.maximum(first @ weights[2] + weights[3], 0)
    return [first, second, second @ weights[4] + weights[5]]


def _gradients(
    weights: list[Floats], inputs: Floats, labels: npt.NDArray[np.int64], importance: Floats
) -> list[Floats]:
    first, second, scores = _forward(weights, inputs)
    error = np.exp(scores - scores.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error *= (importance / len(labels))[:, None]
    behind = (error @ weights[4].T) * (second > 0)
    before = (behind @ weights[2].T) * (first > 0)
    return [inputs.T @ before, before.sum(0), first.T @ behind, behind.sum(0), second.T @ error, error.sum(0)]
