"""`rooms`: pictures of furnished rooms with exact labels, normals and depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nddr_deploy.data.base import Sample
from nddr_deploy.data.rooms.layout import draw_view
from nddr_deploy.data.rooms.render import render
from nddr_deploy.data.rooms.scene import CLASSES, LABELS, PALETTE
from nddr_deploy.data.sensor import Sensor
from nddr_deploy.data.splits import (
    checked_count,
    checked_index,
    checked_size,
    checked_split,
    chosen_tasks,
    sample_generator,
)
from nddr_deploy.errors import unknown_choice
from nddr_deploy.tasks import Depth, Normals, Segmentation, Task
from nddr_deploy.tasks.base import Array

# Class set -> class -> what of the scene it holds. "things" stands to "all" as PASCAL VOC's classes to NYU v2's.
CLASS_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "all": {name: (name,) for name in CLASSES},
    "things": {
        "background": ("floor", "ceiling", "wall", "door", "window", "picture", "lamp"),
        **{name: (name,) for name in ("table", "chair", "bed", "sofa", "cabinet")},
    },
}
# What `remember` keeps, for the whole process: (seed, split, size_hw) -> index -> sample with all targets.
_REMEMBERED: dict[tuple[int, str, tuple[int, int]], dict[int, Sample]] = {}


class Rooms:
    """Synthetic rooms, each seen once by a camera. Nothing is stored: a sample is drawn when it is asked for.

    Textures and colours are drawn independently of what they cover, so that only shape and context tell a class.

    Args:
        split: "train", "val" or "test".
        count: how many samples; the first ones of a larger set are those of a smaller one.
        size_hw: height and width in pixels.
        seed: another seed is another world.
        tasks: names of the tasks to give targets for, in that order; None: segmentation, normals, depth.
        classes: of the segmentation: "all" 12, or "things": five kinds of furniture, and background.
        remember: keep every sample once drawn in memory, for all data sets of this process: 0.3 MB each at 96x128.

    Raises:
        ConfigError: an unknown split, task or class set, or a size, count or seed that makes no pictures.
    """

    def __init__(
        self,
        split: str,
        *,
        count: int = 1000,
        size_hw: Sequence[int] = (96, 128),
        seed: int = 0,
        tasks: Sequence[str] | None = None,
        classes: str = "all",
        remember: bool = False,
    ) -> None:
        checked_count(count, seed)
        self.split = checked_split(split)
        self.count = count
        self.size_hw = checked_size(size_hw, least=16)
        self.seed = seed
        if classes not in CLASS_SETS:
            raise unknown_choice("classes", classes, CLASS_SETS)
        self.tasks = chosen_tasks(tasks, tasks_of(classes))
        self._label_of = _label_table(classes)
        self._remembered = _REMEMBERED.setdefault((seed, self.split, self.size_hw), {}) if remember else None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        index = checked_index(index, self.count)
        if self._remembered is None:
            return self._chosen(self._draw(index))
        if index not in self._remembered:
            self._remembered[index] = self._draw(index)
        return self._chosen(self._remembered[index])

    def _chosen(self, sample: Sample) -> Sample:
        targets = {task.name: sample.targets[task.name] for task in self.tasks}
        if "segmentation" in targets:
            targets["segmentation"] = self._label_of[targets["segmentation"]]
        return Sample(sample.name, sample.image, targets)

    def _draw(self, index: int) -> Sample:
        """With the targets of all tasks and the labels of all classes."""
        rng = sample_generator(self.seed, self.split, index)
        scene, camera = draw_view(rng)
        seen = render(scene, camera, self.size_hw)
        image = Sensor.draw(rng).expose(seen.radiance, rng)
        targets: dict[str, Array] = {"segmentation": seen.labels, "normals": seen.normals, "depth": seen.depth}
        return Sample(f"rooms-{self.split}-{self.seed}-{index:06d}", image, targets)


def tasks_of(classes: str) -> tuple[Task, ...]:
    chosen = CLASS_SETS[classes]
    palette = tuple(PALETTE[LABELS[held[0]]] for held in chosen.values())
    segmentation = Segmentation("segmentation", classes=tuple(chosen), palette=palette)
    return segmentation, Normals("normals"), Depth("depth", max_m=6.0)


def _label_table(classes: str) -> Array:
    """(256,) uint8: a label of the scene -> one of the class set; 255 stays."""
    table = np.full(256, 255, np.uint8)
    for label, held in enumerate(CLASS_SETS[classes].values()):
        table[[LABELS[name] for name in held]] = label
    return table
