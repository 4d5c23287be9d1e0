"""`rooms`: pictures of furnished rooms with exact labels, normals and depth."""

from __future__ import annotations

from collections.abc import Sequence

from nddr_deploy.data.base import Sample
from nddr_deploy.data.rooms.layout import draw_view
from nddr_deploy.data.rooms.render import render
from nddr_deploy.data.rooms.scene import CLASSES, PALETTE
from nddr_deploy.data.sensor import Sensor
from nddr_deploy.data.splits import (
    checked_count,
    checked_index,
    checked_size,
    checked_split,
    chosen_tasks,
    sample_generator,
)
from nddr_deploy.tasks import Depth, Normals, Segmentation, Task
from nddr_deploy.tasks.base import Array

TASKS: tuple[Task, ...] = (
    Segmentation("segmentation", classes=CLASSES, palette=PALETTE),
    Normals("normals"),
    Depth("depth", max_m=6.0),
)


class Rooms:
    """Synthetic rooms, each seen once by a camera. Nothing is stored: a sample is drawn when it is asked for.

    Textures and colours are drawn independently of what they cover, so that only shape and context tell a class.

    Args:
        split: "train", "val" or "test".
        count: how many samples; the first ones of a larger set are those of a smaller one.
        size_hw: height and width in pixels.
        seed: another seed is another world.
        tasks: names of the tasks to give targets for, in that order; None: segmentation, normals, depth.
        remember: keep every sample once drawn, in memory: 0.3 MB each at 96x128.

    Raises:
        ConfigError: an unknown split or task, or a size, count or seed that makes no pictures.
    """

    def __init__(
        self,
        split: str,
        *,
        count: int = 1000,
        size_hw: Sequence[int] = (96, 128),
        seed: int = 0,
        tasks: Sequence[str] | None = None,
        remember: bool = False,
    ) -> None:
        checked_count(count, seed)
        self.split = checked_split(split)
        self.count = count
        self.size_hw = checked_size(size_hw, least=16)
        self.seed = seed
        self.tasks = chosen_tasks(tasks, TASKS)
        self._remembered: dict[int, Sample] | None = {} if remember else None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        index = checked_index(index, self.count)
        if self._remembered is None:
            return self._draw(index)
        if index not in self._remembered:
            self._remembered[index] = self._draw(index)
        return self._remembered[index]

    def _draw(self, index: int) -> Sample:
        rng = sample_generator(self.seed, self.split, index)
        scene, camera = draw_view(rng)
        seen = render(scene, camera, self.size_hw)
        image = Sensor.draw(rng).expose(seen.radiance, rng)
        targets: dict[str, Array] = {"segmentation": seen.labels, "normals": seen.normals, "depth": seen.depth}
        name = f"rooms-{self.split}-{self.seed}-{index:06d}"
        return Sample(name, image, {task.name: targets[task.name] for task in self.tasks})
