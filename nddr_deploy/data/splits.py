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
    if len(size_hw) != 2 or any(not isinstance(side, int) or side < least for side in size_hw):
        raise ConfigError(f"size_hw: expected two whole numbers from {least}, height and width; got {list(size_hw)}.")
    return size_hw[0], size_hw[1]


def checked_count(count: int, seed: int) -> None:
    if count < 1 or seed < 0:
        raise ConfigError(f"count must be at least 1 and seed at least 0; got {count} and {seed}.")


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
    if not names:
        raise ConfigError(f"tasks: name at least one of {', '.join(by_name)}.")
    for name in names:
        if name not in by_name:
            raise unknown_choice("tasks", name, by_name)
    return tuple(by_name[name] for name in names)
