"""One case on real input: what `nddr-infer` does with a frame, short of drawing and writing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import ConfigError, UnreadableError
from nddr_deploy.inference.base import Result
from nddr_deploy.inference.pipeline import run_pipeline
from nddr_deploy.inference.report import RunReport
from nddr_deploy.inference.sources import open_source

PARTS = ("source", "fit", "engine", "decode")  # of `RunReport.parts`, in the order in which a frame meets them


@dataclass(frozen=True)
class Stream:
    """The frames of one round.

    Attributes:
        frames: results that came out.
        wall_s: from the first frame's reading to the last result.
        busy_s: part -> seconds that it worked, all frames together; parts of different threads overlap.
    """

    frames: int
    wall_s: float
    busy_s: Mapping[str, float]


def check_input(spec: str) -> None:
    """Open an input and close it again, so that a wrong one is said before minutes of measuring.

    Raises:
        InputError: it does not exist, cannot be read, or holds nothing that can.
        ConfigError: several videos; or a live source, whose rate is the camera's and not the machine's.
    """
    source = open_source(spec)
    try:
        if source.info.kind == "live":
            raise ConfigError(
                f"--input {source.info.name} is live: frames come at its own rate, whatever the machine could do. "
                "Record a few seconds and give the file."
            )
    finally:
        source.close()


def stream(engine: Engine, spec: str, frames: int) -> Stream:
    """Read, fit, infer and decode the first frames of an input, in the three threads of `nddr-infer`.

    Results at the frame's own size are thrown away: drawing and encoding are the same for every engine.

    Args:
        engine: that runs.
        spec: as for `open_source`; a file or files.
        frames: how many at most.

    Raises:
        UnreadableError: not one frame came out.
        What the source and the engine raise.
    """
    _run(engine, spec, engine.manifest.batch)  # code is compiled, and files are cached, at the first frame
    report = _run(engine, spec, frames)
    if not report.frames:
        reason = report.problems[0] if report.problems else "it has no frame"
        raise UnreadableError(f"{spec}: nothing to measure: {reason}")
    return Stream(report.frames, report.wall_s, {part: report.parts.get(part, 0.0) for part in PARTS})


def _run(engine: Engine, spec: str, limit: int) -> RunReport:
    return run_pipeline(open_source(spec), engine, [_Discard()], limit=limit)


class _Discard:
    """The sink that keeps nothing."""

    def write(self, result: Result) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass
