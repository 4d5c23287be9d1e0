"""Pictures to calibrate and to judge on: laid into a model's image as inference does it, and read when needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nddr_deploy.data import DATASETS, open_dataset
from nddr_deploy.data.base import Dataset
from nddr_deploy.data.pictures import read_picture
from nddr_deploy.data.remembered import Remembered
from nddr_deploy.errors import ConfigError, InputError, UnreadableError
from nddr_deploy.inference.sources import find_inputs, open_video
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Fit, Image

KEPT_ASIDE = 4  # every fourth picture of the calibration is judged on, where nothing else is named


class Stock(Protocol):
    """Where pictures are read from, by their numbers."""

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[str, Image]]:
        """Name and picture, uint8 RGB (H, W, 3), for each number, in the order given; which must be ascending."""


class ImageSet:
    """Some pictures of a stock, each laid into the model's image. One is in memory at a time.

    Attributes:
        names: one a picture; `hashes`: SHA-256 of its pixels as the model gets them.
        size_hw: of the model's image.
        origin: what it is taken from, and about: how much of that, for people.
    """

    def __init__(
        self,
        stock: Stock,
        numbers: Sequence[int],
        names: Sequence[str],
        hashes: Sequence[str],
        lay: Callable[[Image], Image],
        size_hw: tuple[int, int],
        origin: str,
        about: str = "{count} of {origin}",
    ) -> None:
        self._stock = stock
        self._numbers = tuple(numbers)
        self._lay = lay
        self.names = tuple(names)
        self.hashes = tuple(hashes)
        self.size_hw = size_hw
        self.origin = origin
        self.about = about.format(count=len(self.names), origin=origin)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Image]:
        """uint8 (H, W, 3) of `size_hw`; every time the same, in the same order."""
        return (self._lay(picture) for _, picture in self._stock.read(self._numbers))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all of the pictures, whatever their order."""
        return hashlib.sha256("\n".join(sorted(self.hashes)).encode()).hexdigest()

    def batches(self, size: int) -> Batches:
        """The pictures in batches (size, H, W, 3); the last is filled up with its own last picture."""
        return Batches(self, size)

    def apart(self, every: int = KEPT_ASIDE) -> tuple[ImageSet, ImageSet]:
        """The others, and every `every`-th picture: two sets without a common one.

        A picture that is there several times, as in a video of something still, is left out of the first set.

        Raises:
            InputError: there are too few for both.
        """
        chosen = set(range(every - 1, len(self), every))
        known = {self.hashes[place] for place in chosen}
        rest = [place for place, value in enumerate(self.hashes) if value not in known]
        if not chosen or not rest:
            raise InputError(
                f"{self.about} are too few to keep every {every}th aside and judge on it. Give at least {every}, or "
                "name others to judge on."
            )
        return self._part(rest, "{count} of {origin}"), self._part(sorted(chosen), "the other {count} of {origin}")

    def _part(self, places: Sequence[int], about: str) -> ImageSet:
        return ImageSet(
            self._stock,
            [self._numbers[place] for place in places],
            [self.names[place] for place in places],
            [self.hashes[place] for place in places],
            self._lay,
            self.size_hw,
            self.origin,
            about,
        )


class Batches:
    """An image set in batches, which may be gone through again and again."""

    def __init__(self, images: ImageSet, size: int) -> None:
        self._images = images
        self._size = size

    def __len__(self) -> int:
        return -(-len(self._images) // self._size)

    def __iter__(self) -> Iterator[Image]:
        waiting: list[Image] = []
        for image in self._images:
            waiting.append(image)
            if len(waiting) == self._size:
                yield np.stack(waiting)
                waiting = []
        if waiting:
            yield np.stack(waiting + [waiting[-1]] * (self._size - len(waiting)))


def open_images(
    spec: str,
    manifest: Manifest,
    *,
    limit: int,
    split: str = "train",
    options: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> ImageSet:
    """Pictures of the user's own, or those of a data set; spread over all that is there.

    Each is read once here: what cannot be read is left out, and said in `about`.

    Args:
        spec: a folder, a pattern, a list, a picture, a video, or the name of a data set (`data.DATASETS`); a
            folder of such a name is written ./rooms.
        manifest: of the model: its image size and padding.
        limit: at most so many pictures.
        split, options: of a data set.
        progress: told after each picture, with 1.

    Raises:
        InputError: there is nothing, or none can be read.
        ConfigError: a live source, several videos, a limit below 1, or a wrong option.
    """
    if not spec:
        raise ConfigError("An empty name stands for no pictures. Give a folder, a video, or a data set.")
    if limit < 1:
        raise ConfigError(f"There must be a picture at least; got a limit of {limit}.")
    try:
        stock, numbers, name = _stock(spec, limit, split, dict(options or {}))
    except UnreadableError as error:  # a wrong input, not one among many that turned out to be broken
        raise InputError(str(error)) from error
    padding, size_hw = manifest.preprocess.mean_pixel, manifest.size_hw

    def lay(picture: Image) -> Image:
        return Fit.of((picture.shape[0], picture.shape[1]), size_hw).apply(picture, padding)

    found, names, hashes = [], [], []
    why = ""
    for number, picture in _each(stock, numbers):
        if isinstance(picture, InputError):
            why = why or f" ({str(picture).rstrip('.')})"
        else:
            found.append(number)
            names.append(picture[0])
            hashes.append(_hash(lay(picture[1])))
        if progress is not None:
            progress(1)
    if not found:
        raise InputError(f"None of {name} can be read{why}. Give a folder of pictures, a video, or a data set.")
    broken = len(numbers) - len(found)
    origin = name + (f" ({broken} cannot be read)" if broken else "")
    return ImageSet(stock, found, names, hashes, lay, size_hw, origin)


def check_disjoint(calibration: ImageSet, judged: Iterable[str]) -> None:
    """Raise InputError where a picture of the calibration is among those that are judged on.

    Args:
        judged: `ImageSet.hashes` of these.
    """
    common = set(calibration.hashes) & set(judged)
    if common:
        name = next(name for name, value in zip(calibration.names, calibration.hashes, strict=True) if value in common)
        raise InputError(
            f"{len(common)} pictures, {name!r} for one, are both calibrated and judged on, so the result would say "
            "too much. Give others for one of the two."
        )


def hashes_of(dataset: Dataset, manifest: Manifest, count: int) -> Iterator[str]:
    """`ImageSet.hashes` of the first samples of a data set, as letterboxed."""
    for index in range(count):
        image = dataset[index].image
        laid = Fit.of((image.shape[0], image.shape[1]), manifest.size_hw).apply(image, manifest.preprocess.mean_pixel)
        yield _hash(laid)


def _hash(image: Image) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def _each(stock: Stock, numbers: Sequence[int]) -> Iterator[tuple[int, tuple[str, Image] | InputError]]:
    """Every number with its picture, or why that cannot be read."""
    if isinstance(stock, _Video):
        yield from zip(numbers, stock.read(numbers), strict=True)
        return
    for number in numbers:
        try:
            yield number, next(iter(stock.read([number])))
        except InputError as error:
            yield number, error


def _spread(total: int, limit: int) -> list[int]:
    """At most `limit` numbers below `total`, as far apart as can be."""
    return sorted({int(place) for place in np.linspace(0, total - 1, min(total, limit))})


def _stock(spec: str, limit: int, split: str, options: dict[str, Any]) -> tuple[Stock, list[int], str]:
    if spec in DATASETS:
        dataset = Remembered(open_dataset(spec, split, **options))
        return _Samples(dataset), _spread(len(dataset), limit), f"{len(dataset)} samples of {spec} ({split})"
    if options:
        raise ConfigError(f"{spec} is no data set, so it has no options ({', '.join(options)}). Leave them out.")
    inputs = find_inputs(spec)
    if inputs.address is not None:
        raise ConfigError(f"{spec} is live and never gives the same pictures twice. Give pictures or a video.")
    name = Path(spec).name or spec
    if not inputs.videos:
        return (
            _Pictures(inputs.pictures),
            _spread(len(inputs.pictures), limit),
            f"{len(inputs.pictures)} pictures of {name}",
        )
    if len(inputs.files) > 1:
        raise ConfigError(f"{spec} holds {len(inputs.videos)} videos. Give one of them, or a folder of pictures.")
    video = _Video(inputs.videos[0])
    frames = video.count()
    return video, _spread(frames, limit), f"{frames} frames of {name}"


class _Pictures:
    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[str, Image]]:
        for number in numbers:
            yield self._paths[number].name, read_picture(self._paths[number])


class _Samples:
    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[str, Image]]:
        for number in numbers:
            sample = self._dataset[number]
            yield sample.name, sample.image


class _Video:
    def __init__(self, path: Path) -> None:
        self._path = path

    def count(self) -> int:
        source = open_video(self._path)
        try:
            return sum(1 for _ in source)
        finally:
            source.close()

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[str, Image]]:
        wanted = set(numbers)
        source = open_video(self._path)
        try:
            for number, frame in zip(count(), source):
                if number in wanted:
                    yield f"{self._path.name} {frame.name}", frame.image
                if number == numbers[-1]:
                    return
        finally:
            source.close()
