"""Three stages in three threads: read and fit | infer and decode | draw and write."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock, Thread
from typing import Any

import numpy as np

from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import ConfigError, ModelFileError
from nddr_deploy.evaluate.decode import decode_outputs
from nddr_deploy.inference.base import Frame, Remarks, Result, Sink, Source
from nddr_deploy.inference.channel import Channel, Stopped
from nddr_deploy.inference.report import RunReport
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Fit, FitMode, Image
from nddr_deploy.tasks.base import Array

LEAVE_S = 3.0  # how long stages may take to notice that the run is over


@dataclass(frozen=True)
class _Fitted:
    frame: Frame
    fit: Fit
    image: Image


def run_pipeline(
    source: Source,
    engine: Engine,
    sinks: Sequence[Sink],
    *,
    fit: FitMode = "letterbox",
    ahead: int = 4,
    batch: int | None = None,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> RunReport:
    """Every frame of a source through an engine into every sink. The source is closed at the end.

    Queues between the stages hold `ahead` frames (one where the source is live: old pictures are of no use), so
    memory stays bounded. No frame of a file is lost. An error in any stage ends the run within seconds: the sinks are
    aborted and the error is raised. Ctrl-C does the same for a file; it ends a live source like an end of file: what
    was recorded is finished and returned, with `RunReport.stopped`.

    Args:
        source: where frames come from.
        engine: what runs.
        sinks: where results go, in this order.
        fit: how frames are brought to the model's size: "letterbox" or "stretch".
        ahead: frames that may wait between two stages.
        batch: frames per pass; None is the model's own, or the fewest where it leaves the batch open.
        limit: frames to do at most.
        progress: called often, in the caller's thread, with the number of frames written so far.

    Raises:
        ConfigError: the model does not take such a batch.
        ModelFileError: an output holds NaN or infinity.
        What source, engine or sink raise.
    """
    if ahead < 1 or (limit is not None and limit < 1):
        raise ConfigError(f"ahead and limit are at least 1; got {ahead} and {limit}.")
    run = _Run(source, engine, tuple(sinks), fit, ahead, batch_of(engine.manifest, batch), limit)
    return run.run(progress or (lambda frames: None))


def batch_of(manifest: Manifest, asked: int | None) -> int:
    """Frames per pass."""
    if "batch" in manifest.dynamic:
        if asked is not None and asked < 1:
            raise ConfigError(f"batch: got {asked}; expected a whole number from 1.")
        return asked or manifest.batch
    if asked is not None and asked != manifest.batch:
        raise ConfigError(
            f"batch: this model takes {manifest.batch} frames at once; got {asked}. "
            "Leave --batch out, or export with --dynamic batch."
        )
    return manifest.batch


@dataclass
class _Run:
    source: Source
    engine: Engine
    sinks: tuple[Sink, ...]
    fit: FitMode
    ahead: int
    batch: int
    limit: int | None
    report: RunReport = field(default_factory=RunReport)
    error: BaseException | None = None
    lock: Lock = field(default_factory=Lock)
    waited_s: float = 0.0  # for pictures, in the middle stage

    def __post_init__(self) -> None:
        self.live = self.source.info.kind == "live"
        size = 1 if self.live else self.ahead
        self.fitted: Channel[_Fitted] = Channel(max(size, self.batch))
        self.results: Channel[Result] = Channel(max(size, self.batch))
        self.threads = [
            Thread(target=self._guarded, args=(stage, end), name=stage.__name__, daemon=True)
            for stage, end in (
                (self._read, self.fitted.end),
                (self._infer, self.results.end),
                (self._write, lambda: None),
            )
        ]

    def run(self, progress: Callable[[int], None]) -> RunReport:
        start = time.perf_counter()
        for thread in self.threads:
            thread.start()
        try:
            self._wait(progress)
            if self.error is not None:
                raise self.error
            self._close_sinks()
        except BaseException:
            self._leave()
            self._abort_sinks()
            raise
        finally:
            if not self.threads[0].is_alive():
                self.source.close()
        self.report.wall_s = time.perf_counter() - start
        self._collect()
        return self.report

    def _wait(self, progress: Callable[[int], None]) -> None:
        """Until all stages have ended or one has failed; Ctrl-C arrives here."""
        while True:
            try:
                while self.error is None and any(thread.is_alive() for thread in self.threads):
                    self.threads[-1].join(timeout=0.1)
                    progress(self.report.frames)
                return
            except KeyboardInterrupt:
                if not self.live or self.report.stopped:  # the second Ctrl-C is meant
                    raise
                self.report.stopped = True
                self.source.close()

    def _guarded(self, stage: Callable[[], None], end: Callable[[], None]) -> None:
        try:
            stage()
        except Stopped:
            pass
        except BaseException as error:  # also KeyboardInterrupt of a user's own source: no stage may vanish silently
            with self.lock:
                self.error = self.error or error
            self.fitted.stop()
            self.results.stop()
        finally:
            end()

    def _read(self) -> None:
        manifest = self.engine.manifest
        padding = manifest.preprocess.mean_pixel
        for frame in self._timed(islice(self.source, self.limit), "source"):
            start = time.perf_counter()
            fit = Fit.of((frame.image.shape[0], frame.image.shape[1]), manifest.size_hw, self.fit)
            image = fit.apply(frame.image, padding)
            self._count("read", "fit", start)
            self.fitted.put(_Fitted(frame, fit, image))

    def _timed(self, frames: Iterator[Frame], part: str) -> Iterator[Frame]:
        while True:
            start = time.perf_counter()
            frame = next(frames, None)
            if not self.live:  # waiting for a camera is no work
                self._count("read", part, start)
            if frame is None:
                return
            yield frame

    def _infer(self) -> None:
        """Batches go in as the engine takes them, which may be before it has returned the ones before."""
        manifest = self.engine.manifest
        groups: deque[list[_Fitted]] = deque()  # in the engine
        batches = self._batches(groups)
        # a live source's next picture is not waited for before the last one's result is out
        outputs_of = self._one_by_one(batches) if self.live else self.engine.stream(batches)
        with closing(outputs_of):
            while (outputs := self._next_outputs(outputs_of)) is not None:
                check_finite(outputs)
                for index, item in enumerate(groups.popleft()):
                    start = time.perf_counter()
                    decoded = decode_outputs(outputs, index, manifest, item.fit)
                    self._count("infer", "decode", start)
                    self.results.put(Result(item.frame, decoded))

    def _one_by_one(self, batches: Iterator[Image]) -> Generator[dict[str, Array], None, None]:
        for images in batches:
            yield self.engine.infer(images)

    def _next_outputs(self, outputs_of: Iterator[dict[str, Array]]) -> dict[str, Array] | None:
        """The engine's share of the time is all but what it waited for pictures."""
        start, waited_s = time.perf_counter(), self.waited_s
        outputs = next(outputs_of, None)
        self._count("infer", "engine", start + self.waited_s - waited_s)
        return outputs

    def _batches(self, groups: deque[list[_Fitted]]) -> Iterator[Image]:
        found = self._groups()
        while True:
            start = time.perf_counter()
            group = next(found, None)
            self.waited_s += time.perf_counter() - start
            if group is None:
                return
            groups.append(group)
            yield np.stack([item.image for item in group] + [group[-1].image] * (self.batch - len(group)))

    def _groups(self) -> Iterator[list[_Fitted]]:
        """As many frames as a pass takes; fewer at the end, and from a live source, which is not waited for."""
        size = 1 if self.live else self.batch
        group: list[_Fitted] = []
        for item in self.fitted:
            group.append(item)
            if len(group) == size:
                yield group
                group = []
        if group:
            yield group

    def _write(self) -> None:
        for result in self.results:
            start = time.perf_counter()
            for sink in self.sinks:
                sink.write(result)
            self._count("write", None, start)
            self.report.frames += 1

    def _count(self, stage: str, part: str | None, start: float) -> None:
        seconds = time.perf_counter() - start
        self.report.stages[stage] += seconds
        if part is not None:
            self.report.parts[part] = self.report.parts.get(part, 0.0) + seconds

    def _leave(self) -> None:
        """Tell every stage to go, and give them a moment to do it."""
        self.fitted.stop()
        self.results.stop()
        if self.live:
            self.source.close()
        until = time.monotonic() + LEAVE_S
        for thread in self.threads:
            thread.join(timeout=max(0.0, until - time.monotonic()))

    def _close_sinks(self) -> None:
        start = time.perf_counter()
        for sink in self.sinks:
            sink.close()
        self._count("write", None, start)

    def _abort_sinks(self) -> None:
        if self.threads[-1].is_alive():  # it hangs in a sink, which may not be touched; its file has a temporary name
            return
        for sink in self.sinks:
            with suppress(Exception):  # the first error is the one to tell
                sink.abort()

    def _collect(self) -> None:
        for teller in (self.source, *self.sinks):
            remarks = getattr(teller, "remarks", Remarks())
            self.report.notes += remarks.notes
            self.report.problems += remarks.problems
            self.report.dropped += remarks.dropped
            self.report.gaps += remarks.gaps
            self.report.paths += getattr(teller, "paths", [])
            parts: dict[str, Any] = getattr(teller, "seconds", {})
            for name, seconds in parts.items():
                self.report.parts[name] = self.report.parts.get(name, 0.0) + seconds


def check_finite(outputs: dict[str, Array]) -> None:
    """A network that overflowed (typically in half precision) must not be mistaken for one that sees nothing."""
    for name, output in outputs.items():
        if output.dtype.kind == "f" and not np.isfinite(output.sum(dtype=np.float64)):
            raise ModelFileError(
                f"The model's output {name!r} holds NaN or infinity. Run it in fp32 (--precision fp32), "
                "or check with nddr-eval that it was exported from a trained checkpoint."
            )
