"""The pictures of a quantisation: those that ranges are measured on, and others that it is judged on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nddr_deploy.card.schema import DataSet
from nddr_deploy.data import DATASETS, open_dataset
from nddr_deploy.data.base import Sample
from nddr_deploy.data.remembered import Remembered
from nddr_deploy.errors import ConfigError
from nddr_deploy.evaluate.parity import Model
from nddr_deploy.evaluate.sample_scores import EvaluationSet
from nddr_deploy.inference.image_set import ImageSet, check_disjoint, hashes_of, open_images
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Image
from nddr_deploy.progress import progress_bar


@dataclass(frozen=True)
class Judging:
    """Two sets of pictures without a common one.

    Attributes:
        calibration: for ranges.
        evaluation: to judge on.
        dataset: how the latter is opened again, where it is labelled data.
    """

    calibration: ImageSet
    evaluation: EvaluationSet
    dataset: DataSet | None = None

    def agreement(self, count: int, reference: Model) -> EvaluationSet:
        """The first pictures that are judged on, with the reference's results as the truth."""
        some = self.evaluation.first(count)
        if not some.labelled:
            return some
        samples = list(some.samples)
        return EvaluationSet.against(some.manifest, reference, _Images(samples), about=some.about)


class RememberedImages:
    """The pictures of an image set, which stay in memory from the first time on, unless they are too many for that.

    Every trial goes through them, and a video would be decoded from its beginning each time.

    Args:
        images: what is read.
        most_bytes: of all pictures together; more are read again each time.
    """

    def __init__(self, images: ImageSet, *, most_bytes: int = 2**29) -> None:
        self._images = images
        self._worth_it = len(images) * images.size_hw[0] * images.size_hw[1] * 3 <= most_bytes
        self._kept: list[Image] = []

    @property
    def names(self) -> Sequence[str]:
        return self._images.names

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Image]:
        if len(self._kept) == len(self):
            yield from self._kept
            return
        read: list[Image] = []
        for image in self._images:
            if self._worth_it:
                read.append(image)
            yield image
        if self._worth_it:
            self._kept = read


class _Images:
    """The pictures of some samples alone."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    @property
    def names(self) -> list[str]:
        return [sample.name for sample in self._samples]

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Image]:
        return (sample.image for sample in self._samples)


def open_judging(
    manifest: Manifest,
    reference: Model,
    *,
    calibration: str,
    calibration_split: str = "train",
    calibration_options: Mapping[str, Any] | None = None,
    calibration_limit: int = 256,
    data: str | None = None,
    split: str = "val",
    options: Mapping[str, Any] | None = None,
    images: str | None = None,
    limit: int = 300,
    progress: bool = False,
) -> Judging:
    """Open both; see `quantize_model` for the arguments.

    Raises:
        ConfigError: a wrong option.
        InputError: pictures cannot be read, are too few, or are in both sets.
    """
    if limit < 1:
        raise ConfigError(f"limit: got {limit}; expected a whole number from 1.")
    with progress_bar("calibration pictures", calibration_limit, shown=progress) as advance:
        measured = open_images(
            calibration,
            manifest,
            limit=calibration_limit,
            split=calibration_split,
            options=calibration_options,
            progress=advance,
        )
    if data is not None:
        return _labelled(manifest, measured, data, split, dict(options or {}), limit)
    if images is None:
        measured, judged = measured.apart()
    else:
        with progress_bar("pictures to judge on", limit, shown=progress) as advance:
            chosen = options if images in DATASETS else None
            judged = open_images(images, manifest, limit=limit, split=split, options=chosen, progress=advance)
        check_disjoint(measured, judged.hashes)
    with progress_bar("float results", len(judged), shown=progress) as advance:
        kept = RememberedImages(judged)
        evaluation = EvaluationSet.against(manifest, reference, kept, about=judged.about, progress=advance)
    return Judging(measured, evaluation.first(limit))


def _labelled(
    manifest: Manifest, measured: ImageSet, data: str, split: str, options: dict[str, Any], limit: int
) -> Judging:
    dataset = Remembered(open_dataset(data, split, **options))
    count = min(limit, len(dataset))
    evaluation = EvaluationSet.labelled_data(
        manifest, dataset, limit=limit, about=f"{count} samples of {data} ({split})"
    )
    check_disjoint(measured, hashes_of(dataset, manifest, count))
    return Judging(measured, evaluation, DataSet(name=data, split=split, options=options))
