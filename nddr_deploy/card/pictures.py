"""The images on which each head lost most, as small pictures that a page holds inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nddr_deploy.card.schema import finite
from nddr_deploy.evaluate.comparison import truth_words
from nddr_deploy.evaluate.parity import Model
from nddr_deploy.evaluate.run_samples import SampleResult
from nddr_deploy.evaluate.sample_scores import EvaluationSet, SampleScores
from nddr_deploy.page.figures import value_text
from nddr_deploy.page.panels import Panel, panel
from nddr_deploy.tasks.base import Task
from nddr_deploy.tasks.palette import Colour

WORST = 3
LOUDER = 8  # a difference of four degrees or of one class can be seen


@dataclass(frozen=True)
class Picture:
    """One image's panels for one task.

    Attributes:
        task: its name.
        name: of the image in its data.
        caption: what it lost.
        panels: frame, FP32, this model, what differs, truth where there is one.
        legend: of the task.
    """

    task: str
    name: str
    caption: str
    panels: tuple[Panel, ...]
    legend: tuple[tuple[str, Colour], ...] = ()


def worst_pictures(
    evaluation: EvaluationSet,
    before: SampleScores,
    after: SampleScores,
    reference: Model,
    model: Model,
    *,
    count: int = WORST,
    this: str = "this model",
) -> tuple[Picture, ...]:
    """For each task the images that lose most in its headline metric, the worst first.

    Args:
        evaluation: that both were judged on.
        before, after: their scores.
        reference, model: FP32 and this model, as they were scored.
        count: images per task; fewer where fewer lose anything.
        this: what the model is called in titles, as in "INT8".
    """
    pictures = []
    for task in evaluation.tasks:
        unit = task.metrics[task.headline].unit
        then, now = (scores.per_sample(task.name, task.headline) for scores in (before, after))
        for place in before.worst(after, task.name, task.headline, count):
            text = [value_text(finite(values[place]), unit) for values in (then, now)]
            caption = f"{task.headline} on this image {text[0]} with FP32, {text[1]} with {this}."
            if not evaluation.labelled:
                caption = f"{task.headline} on this image {text[1]} with {this}, FP32's result being the truth."
            shown = [evaluation.look(infer, place) for infer in (reference, model)]
            pictures.append(picture_of(task, shown[0], shown[1], caption, this, truth=evaluation.labelled))
    return tuple(pictures)


def picture_of(
    task: Task, before: SampleResult, after: SampleResult, caption: str, this: str, *, truth: bool = True
) -> Picture:
    """One image's panels: of a pooled task the image and, in words, what both say."""
    sample = before.sample
    results = [result.decoded()[task.name] for result in (before, after)]
    alt = f"{sample.name}, {task.name}"
    frame = panel(sample.image, "image", f"{alt}: the image itself")
    if task.head == "pooled":
        said = [f"{name} says {task.caption(result)}" for name, result in zip(("FP32", this), results, strict=True)]
        if truth:
            said.append(f"the truth is {truth_words(task, sample.targets[task.name])}")
        return Picture(task.name, sample.name, f"{caption} {', '.join(said)}.", (frame,))
    drawn = [task.render(result, sample.image) for result in results]
    differs = np.abs(drawn[0].astype(np.int16) - drawn[1]).max(axis=2, keepdims=True)
    shown = np.repeat((LOUDER * differs).clip(0, 255).astype(np.uint8), 3, axis=2)
    panels = [
        frame,
        panel(drawn[0], "FP32", f"{alt}: result of FP32", smooth=False),
        panel(drawn[1], this, f"{alt}: result of {this}", smooth=False),
        panel(shown, f"what differs, {LOUDER}× as bright", f"{alt}: bright where both differ"),
    ]
    if truth:
        target = task.render(sample.targets[task.name], sample.image)
        panels.append(panel(target, "truth", f"{alt}: the truth", smooth=False))
    return Picture(task.name, sample.name, caption, tuple(panels), tuple(task.legend()))
