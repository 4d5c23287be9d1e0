"""Samples with a truth, read when they are needed: from labelled data, or from what a reference said of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from nddr_deploy.data.base import Dataset, Sample
from nddr_deploy.evaluate.decode import decode_outputs
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Fit, Image
from nddr_deploy.tasks.base import Array


class NamedImages(Protocol):
    """Images that can be read again and again, always in the same order."""

    @property
    def names(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Image]: ...


class Samples(Protocol):
    """Samples that are read when they are needed."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...

    def at(self, place: int) -> Sample: ...


@dataclass(frozen=True)
class LabelledSamples:
    """The first samples of a data set."""

    dataset: Dataset
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Sample]:
        return map(self.at, range(self.count))

    def at(self, place: int) -> Sample:
        return self.dataset[place]


@dataclass(frozen=True)
class ReferenceSamples:
    """Images with the reference's results as their truths."""

    manifest: Manifest
    images: NamedImages
    outputs: tuple[Mapping[str, Array], ...]

    def __len__(self) -> int:
        return len(self.outputs)

    def __iter__(self) -> Iterator[Sample]:
        named = zip(self.images.names, self.images, strict=True)
        return (self._sample(name, image, place) for place, (name, image) in enumerate(named))

    def at(self, place: int) -> Sample:
        return self._sample(self.images.names[place], next(islice(self.images, place, None)), place)

    def _sample(self, name: str, image: Image, place: int) -> Sample:
        fit = Fit.of((image.shape[0], image.shape[1]), self.manifest.size_hw)
        decoded = decode_outputs(self.outputs[place], 0, self.manifest, fit)
        return Sample(name, image, {task.name: task.as_target(decoded[task.name]) for task in self.manifest.tasks})


@dataclass(frozen=True)
class FirstSamples:
    """The first of others."""

    samples: Samples
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Sample]:
        return islice(self.samples, self.count)

    def at(self, place: int) -> Sample:
        return self.samples.at(range(self.count)[place])
