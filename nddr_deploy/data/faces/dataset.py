"""`faces`: drawn faces with an age and a gender, for tasks with one answer per picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nddr_deploy.data.base import Sample
from nddr_deploy.data.faces.drawing import draw
from nddr_deploy.data.faces.traits import draw_face
from nddr_deploy.data.rooms.materials import linear
from nddr_deploy.data.sensor import Sensor
from nddr_deploy.data.splits import (
    checked_count,
    checked_index,
    checked_size,
    checked_split,
    chosen_tasks,
    sample_generator,
)
from nddr_deploy.tasks import Age, Classification, Task
from nddr_deploy.tasks.base import Array

GENDERS = ("male", "female")
TASKS: tuple[Task, ...] = (Age("age", classes=100), Classification("gender", classes=GENDERS))


class Faces:
    """Drawn faces of every age from 0 to 99, half of them male.

    Head proportions, wrinkles, the colour and shape of hair, beards and brows tell age and gender; skin, hair and
    background colours alone do not. All traits vary and overlap, so that no answer is certain.

    Args:
        split: "train", "val" or "test".
        count: how many samples; the first ones of a larger set are those of a smaller one.
        size_hw: height and width in pixels.
        seed: another seed is another population.
        tasks: names of the tasks to give targets for, in that order; None: age, gender.

    Raises:
        ConfigError: an unknown split or task, or a size, count or seed that makes no pictures.
    """

    def __init__(
        self,
        split: str,
        *,
        count: int = 1000,
        size_hw: Sequence[int] = (64, 64),
        seed: int = 0,
        tasks: Sequence[str] | None = None,
    ) -> None:
        checked_count(count, seed)
        self.split = checked_split(split)
        self.count = count
        self.size_hw = checked_size(size_hw, least=16)
        self.seed = seed
        self.tasks = chosen_tasks(tasks, TASKS)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        index = checked_index(index, self.count)
        rng = sample_generator(self.seed, self.split, index)
        age, gender = int(rng.integers(100)), int(rng.integers(2))
        picture = draw(draw_face(rng, age, gender), self.size_hw, rng)
        light = linear(picture / 255.0).astype(np.float32)
        image = Sensor.draw(rng).expose(light, rng, gain=1.0)
        targets: dict[str, Array] = {"age": np.array(age, np.float32), "gender": np.array(gender, np.int64)}
        name = f"faces-{self.split}-{self.seed}-{index:06d}"
        return Sample(name, image, {task.name: targets[task.name] for task in self.tasks})
