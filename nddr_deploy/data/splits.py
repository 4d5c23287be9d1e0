"""What the synthetic data sets share: splits without a common sample, and checked options."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.tasks import Task

SPLITS = {"train": 0, "val": 1, "test": 2}


def sample_generator(seed: int, split: str, index: int, purpose: int = 0) -> np.random.Generator:
    """The random numbers of one sample: the same in every process, different for each split and purpose."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SPLITS[split], index, purpose])))


def checked_split(split: str) -> str:
    if split not in SPLITS:
        raise unknown_choice("split", split, SPLITS)
    return split


def checked_size(size_hw: Sequence[int], least: int) -> tuple[int, int]:
    """Height and width in pixels, from a tuple or a YAML list."""
    sides = list(size_hw) if isinstance(size_hw, (list, tuple)) else []
    if len(sides) != 2 or any(not isinstance(side, int) or side < least for side in sides):
        raise ConfigError(f"size_hw: expected two whole numbers from {least}, height and width; got {size_hw!r}.")
    return sides[0], sides[1]


def checked_count(count: int, seed: int) -> None:
    for name, value, least in (("count", count, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"{name}: expected a whole number from {least}; got {value!r}.")


def checked_index(index: int, count: int) -> int:
    """Like a list: negative indices count from the end, and iteration ends with IndexError."""
    if not -count <= index < count:
        raise IndexError(f"sample {index} of {count}")
    return index % count


def chosen_tasks(names: Sequence[str] | None, known: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks of these names, in this order; all of them where None."""
    by_name = {task.name: task for task in known}
    if names is None:
        return tuple(known)
    if isinstance(names, str):
        names = [names]
    if not names:
        raise ConfigError(f"tasks: name at least one of {', '.join(by_name)}.")
    for name in names:
        if name not in by_name:
            raise unknown_choice("tasks", name, by_name)
    if len(set(names)) < len(names):
        raise ConfigError(f"tasks: a name is listed twice in {', '.join(names)}.")
    return tuple(by_name[name] for name in names)
