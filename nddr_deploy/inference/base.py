"""What flows from a source through the engine to a sink."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol

from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array


@dataclass(frozen=True)
class SourceInfo:
    """What is known before the first frame.

    Attributes:
        name: for people: the file's name, "camera 0", the stream's address without its password.
        kind: "video" (never drops a frame), "pictures" (one result per file), "live" (drops the oldest).
        frames: how many will come; None where the file does not say, or live.
        rate: nominal frames per second; None for pictures, and where nothing tells.
        time_base: what the frames' times are whole multiples of, in seconds; None for pictures.
        start_s: where the file's own clock starts: its first frame's time may be later, not earlier.
        duration_s: of the video track; None where the file does not say.
        stored_hw: the upright size in stored pixels where these are not square (frames are always in square pixels:
            as displayed); None where they are.
        sample_aspect: width by height of one upright stored pixel.
        media: what its audio can be read from: a path or an address; None where there is no audio.
    """

    name: str
    kind: Literal["video", "pictures", "live"]
    frames: int | None = None
    rate: Fraction | None = None
    time_base: Fraction | None = None
    start_s: Fraction = Fraction(0)
    duration_s: Fraction | None = None
    stored_hw: tuple[int, int] | None = None
    sample_aspect: Fraction = Fraction(1)
    media: str | None = None


@dataclass
class Remarks:
    """What a source or a sink has to tell besides its frames. Only ever grows.

    Attributes:
        notes: sentences about what was done with an unusual input; the output is right.
        problems: sentences about what could not be read or written; the exit status becomes 1.
        dropped: frames of a live source that were replaced by a newer one before they were used.
        gaps: (start, length) in seconds of a live source's lost connections.
    """

    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    dropped: int = 0
    gaps: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Frame:
    """One picture, upright (rotation already applied).

    Attributes:
        image: RGB uint8 (H, W, 3), square pixels.
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
    """Where frames come from. Iterated once. May also have `remarks: Remarks`, which end up in the report."""

    @property
    def info(self) -> SourceInfo: ...

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Free what is held; an iteration that waits for a live frame ends. May be called twice, from any thread."""


class Sink(Protocol):
    """Where results go. `close` finishes the output; `abort` removes what is unfinished.

    May also have `remarks: Remarks`, `paths: list[Path]` (what it wrote) and `seconds: dict[str, float]` (time of its
    parts), which end up in the report.
    """

    def write(self, result: Result) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...
