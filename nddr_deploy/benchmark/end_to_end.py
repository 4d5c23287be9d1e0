"""From a file to results at the frame's own size, through the stages that nddr-infer has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import InputError
from nddr_deploy.inference.base import Result
from nddr_deploy.inference.pipeline import run_pipeline
from nddr_deploy.inference.sources import open_source

WARM_UP_FRAMES = 2


@dataclass(frozen=True)
class Stream:
    """One run.

    Attributes:
        frames: that came out.
        wall_s: from opening the source to the last result.
        busy_s: part ("source", "fit", "engine", "decode") -> seconds that it worked; parts of different stages overlap.
    """

    frames: int
    wall_s: float
    busy_s: Mapping[str, float]


class Nowhere:
    """A sink that drops what it gets: neither drawing nor writing is measured."""

    def write(self, result: Result) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


def stream(engine: Engine, input: str, frames: int) -> Stream:
    """Run the first frames of a source.

    Raises:
        InputError: the source cannot be read, or has no frame.
    """
    run_pipeline(open_source(input), engine, [Nowhere()], limit=WARM_UP_FRAMES)
    report = run_pipeline(open_source(input), engine, [Nowhere()], limit=frames)
    if not report.frames:
        raise InputError(f"{input} has no frame that can be read. Choose another input.")
    return Stream(report.frames, report.wall_s, report.parts)


def check_input(input: str) -> None:
    """Fail before the measuring starts, not after.

    Raises:
        InputError: the source cannot be opened. ConfigError: it has several parts.
    """
    open_source(input).close()
