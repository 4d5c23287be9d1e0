"""Which samples make up a step, and how they are varied: a function of (seed, step) alone, so it can be resumed."""

from __future__ import annotations

import signal
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from nddr_deploy.data.base import Dataset, Sample
from nddr_deploy.errors import ConfigError, InputError, NddrError
from nddr_deploy.tasks.base import IGNORE_LABEL, Array, Task
from nddr_deploy.training.augment import augment, check_ranges
from nddr_deploy.training.config import AugmentConfig

# Different uses of one seed must not draw the same numbers: the second word of every seed sequence says what it is for.
ORDER, VARIATION = 1, 2


@dataclass(frozen=True)
class Batch:
    """Samples of one step and one process.

    Attributes:
        images: uint8 (N, H, W, 3) RGB.
        targets: task name -> (N, ...) as `data.Sample` describes one.
    """

    images: Tensor
    targets: dict[str, Tensor]

    def pin_memory(self) -> Batch:
        """In memory that a GPU copies from by itself."""
        return Batch(self.images.pin_memory(), {name: target.pin_memory() for name, target in self.targets.items()})

    def to(self, device: torch.device) -> Batch:
        """On a device; from pinned memory, the copy goes on while Python does other things."""
        targets = {name: target.to(device, non_blocking=True) for name, target in self.targets.items()}
        return Batch(self.images.to(device, non_blocking=True), targets)


@lru_cache(maxsize=2)
def sample_order(seed: int, epoch: int, count: int) -> Array:
    """The order in which an epoch goes through `count` samples."""
    return _generator(seed, ORDER, epoch).permutation(count)


def step_samples(seed: int, step: int, batch_size: int, count: int) -> list[tuple[int, int]]:
    """The (epoch, sample index) pairs of a step. Epochs follow one another without a gap, also inside a batch."""
    positions = range(step * batch_size, (step + 1) * batch_size)
    orders = {epoch: sample_order(seed, epoch, count) for epoch in {position // count for position in positions}}
    return [(position // count, int(orders[position // count][position % count])) for position in positions]


class Batches(TorchDataset[Batch | NddrError]):
    """`batches[step]`: the samples of that step which belong to this process, varied and stacked.

    Args:
        dataset: to draw from.
        tasks: whose targets to stack.
        batch_size: samples per step, over all processes.
        settings, padding: see `augment`.
        process, processes: this process takes every `processes`-th sample, from its own number on.
        parts: into how many its samples will be cut.

    Raises:
        ConfigError: an empty data set, a batch that cannot be shared out evenly, or a variation out of range.
    """

    def __init__(
        self,
        dataset: Dataset,
        tasks: Sequence[Task],
        *,
        batch_size: int,
        seed: int,
        settings: AugmentConfig,
        padding: tuple[int, int, int],
        process: int = 0,
        processes: int = 1,
        parts: int = 1,
    ) -> None:
        if len(dataset) == 0:
            raise ConfigError("The training split has no samples. Choose another split, or ask for more.")
        if batch_size < 1 or batch_size % (processes * parts):
            sharers = f"{processes} processes" if parts == 1 else f"{processes} x {parts} (processes x accumulate)"
            raise ConfigError(
                f"batch_size: {batch_size} images cannot be shared out evenly among {sharers}. "
                f"Choose a multiple of {processes * parts}."
            )
        check_ranges(settings)
        self.dataset = dataset
        self.tasks = tuple(tasks)
        self.batch_size = batch_size
        self.seed = seed
        self.settings = settings
        self.padding = padding
        self.process = process
        self.processes = processes

    def __getitem__(self, step: int) -> Batch | NddrError:
        """The batch. An error that the user can mend is returned: a worker process would wrap what it raises."""
        pairs = step_samples(self.seed, step, self.batch_size, len(self.dataset))[self.process :: self.processes]
        try:
            return self._stack([(epoch, index, self.dataset[index]) for epoch, index in pairs])
        except NddrError as error:
            return error

    def _stack(self, chosen: list[tuple[int, int, Sample]]) -> Batch:
        images: list[Array] = []
        targets: dict[str, list[Array]] = {task.name: [] for task in self.tasks}
        for epoch, index, sample in chosen:
            random = _generator(self.seed, VARIATION, epoch, index)
            image, varied = augment(sample.image, sample.targets, self.tasks, self.settings, self.padding, random)
            if images and image.shape != images[0].shape:
                raise InputError(
                    f"{sample.name}: {image.shape[0]}x{image.shape[1]} pixels, but another image of the batch has "
                    f"{images[0].shape[0]}x{images[0].shape[1]}. Set augment.crop_hw to bring them to one size."
                )
            images.append(image)
            for task in self.tasks:
                targets[task.name].append(_checked(varied[task.name], task, sample.name))
        return Batch(
            torch.from_numpy(np.stack(images)),
            {name: torch.from_numpy(np.stack(arrays)) for name, arrays in targets.items()},
        )


def load_batches(
    batches: Batches, steps: range, *, workers: int = 0, pinned: bool = False
) -> Generator[Batch, None, None]:
    """The batches of `steps`, in order.

    Args:
        workers: processes that prepare batches ahead, four each; 0 prepares each when it is asked for.
        pinned: batches lie in memory that a GPU copies from by itself.

    Raises:
        NddrError: what `batches[step]` met.
    """
    loader = DataLoader(
        batches,
        batch_size=None,  # an item is a batch already
        sampler=steps,
        num_workers=workers,
        collate_fn=_as_it_is,
        prefetch_factor=4 if workers else None,
        pin_memory=pinned,  # calls Batch.pin_memory
        # A fork of a process with running OpenMP or CUDA threads hangs.
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_prepare_worker,
        # Without a generator of its own, the loader would draw from the one that dropout uses.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, NddrError):
            raise batch
        yield batch


def _generator(*words: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def _checked(target: Array, task: Task, sample: str) -> Array:
    """Refuse labels and years that the task has no output for: with them, CUDA fails for good."""
    if task.kind not in ("segmentation", "binary", "classification", "age"):
        return target
    values = np.rint(target) if task.kind == "age" else target
    count = 2 if task.kind == "binary" else task.channels
    wrong = (values < 0) | (values >= count)
    if task.kind in ("segmentation", "binary"):
        wrong &= target != IGNORE_LABEL
    if wrong.any():
        found = np.asarray(target)[wrong].flat[0]
        raise InputError(f"{sample}: the target of {task.name} holds {found}; expected 0 to {count - 1}.")
    return target


def _as_it_is(item: Any) -> Any:
    return item


def _prepare_worker(_: int) -> None:
    # Ctrl-C reaches every process of the terminal; the trainer decides, and ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
