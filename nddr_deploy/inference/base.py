"""What flows from a source through the engine to a sink."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array


@dataclass(frozen=True)
class SourceInfo:
    """What is known before the first frame.

    Attributes:
        name: for people: the file's name, "camera 0", the stream's address without its password.
        kind: "video" (a file: never drops), "pictures" (one result per file), "live" (drops the oldest).
        frames: how many will come; None where the file does not say, or live.
        rate: nominal frames per second; None for pictures.
        path: the media file, for copying its audio; None where there is none.
        has_audio: the file has an audio track.
    """

    name: str
    kind: str
    frames: int | None = None
    rate: Fraction | None = None
    path: Path | None = None
    has_audio: bool = False


@dataclass(frozen=True)
class Frame:
    """One picture, upright (rotation already applied).

    Attributes:
        image: RGB uint8 (H, W, 3).
        index: 0, 1, 2, ... in the order of the source.
        time_s: presentation time; exact for videos, arrival time for live sources, None for pictures.
        name: a stem for output files: "000012", or the picture's own name.
        path: the picture's file; None for videos and cameras.
    """

    image: Image
    index: int
    time_s: Fraction | None
    name: str
    path: Path | None = None


@dataclass(frozen=True)
class Result:
    """One frame with every task's decoded result, at the frame's own size."""

    frame: Frame
    decoded: Mapping[str, Array]


class Source(Protocol):
    """Where frames come from. Iterated once."""

    info: SourceInfo

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


class Sink(Protocol):
    """Where results go. `close` finishes the output; `abort` removes what is unfinished."""

    def write(self, result: Result) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...
