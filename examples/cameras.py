"""Several cameras or videos through one model: every round, whatever pictures are there go in as one batch.

A live camera gives its newest picture, or none where nothing new has come; a file gives its next one, until it ends.
The batch grows and shrinks with them, so the model needs an open batch. Ctrl-C ends, and keeps what was recorded."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Condition, Thread

import numpy as np

from nddr_deploy import open_engine
from nddr_deploy.command import Parser, run_command
from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.evaluate.decode import decode_outputs
from nddr_deploy.inference.base import Frame, Remarks, Result, Source
from nddr_deploy.inference.file_sinks import make_folder
from nddr_deploy.inference.layout import Layout
from nddr_deploy.inference.pipeline import check_finite
from nddr_deploy.inference.run import refuse_overwriting
from nddr_deploy.inference.sinks import Output
from nddr_deploy.inference.sources import find_inputs, open_source
from nddr_deploy.inference.video_sink import VideoSink
from nddr_deploy.preprocess import Fit


class Camera(Thread):
    """Reads a source: all frames of a file, the newest of a live one. All cameras share `news`."""

    def __init__(self, source: Source, news: Condition) -> None:
        super().__init__(name=source.info.name, daemon=True)
        self.source, self.news, self.live = source, news, source.info.kind == "live"
        self.frame: Frame | None = None  # read, and not used yet
        self.ended = self.closed = False
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            for frame in self.source:
                with self.news:
                    self.news.wait_for(lambda: self.live or self.frame is None or self.closed)
                    if self.closed:
                        return
                    self.frame = frame
                    self.news.notify_all()
        except BaseException as error:  # told by the thread that writes the results
            self.error = error
        finally:
            with self.news:
                self.ended = True
                self.news.notify_all()

    def problems(self) -> list[str]:
        if self.error is not None and not isinstance(self.error, InputError):
            raise self.error
        return [str(self.error)] * (self.error is not None) + getattr(self.source, "remarks", Remarks()).problems

    def close(self) -> None:
        with self.news:
            self.closed = True
            self.news.notify_all()
        if self.live:
            self.source.close()  # ends its waiting for a picture
        self.join(timeout=3)
        self.source.close()


def rounds(cameras: Sequence[Camera], news: Condition) -> Iterator[list[tuple[Camera, Frame]]]:
    """The pictures that are there, again and again, until every source has ended. Only files are waited for."""

    def ready() -> bool:
        missing = [camera for camera in cameras if camera.frame is None and not camera.ended]
        return not missing or (all(camera.live for camera in missing) and any(camera.frame for camera in cameras))

    while True:
        with news:
            news.wait_for(ready)
            taken = [(camera, camera.frame) for camera in cameras if camera.frame is not None]
            for camera, _ in taken:
                camera.frame = None
            news.notify_all()
        if not taken:
            return
        yield taken


def run_batch(engine: Engine, frames: Sequence[Frame]) -> list[Result]:
    """One pass for all frames, and each one's own results at its own size."""
    manifest, padding = engine.manifest, engine.manifest.preprocess.mean_pixel
    fits = [Fit.of((frame.image.shape[0], frame.image.shape[1]), manifest.size_hw) for frame in frames]
    outputs = engine.infer(np.stack([fit.apply(frame.image, padding) for fit, frame in zip(fits, frames, strict=True)]))
    check_finite(outputs)
    decoded = (decode_outputs(outputs, index, manifest, fit) for index, fit in enumerate(fits))
    return list(map(Result, frames, decoded))


def run_cameras(model: str, sources: Sequence[str], output: Path, backend: str | None) -> int:
    """Write `NUMBER-NAME.mp4` per source into a folder. Returns 1 where one could not be read to its end."""
    news, sizes = Condition(), []
    with ExitStack() as stack:
        cameras, paths = [], []
        for number, spec in enumerate(sources, 1):
            found = find_inputs(spec)
            refuse_overwriting(found, Output(output, "pictures", folder=True))
            stem = re.sub(r"[^\w-]+", "_", Path(found.name).stem)
            paths.append(output / f"{number}-{stem}.mp4")
            cameras.append(Camera(open_source(spec), news))
            stack.callback(cameras[-1].close)
            if cameras[-1].source.info.kind == "pictures":
                raise InputError(f"{spec} holds pictures. Expected a video, camera:0, or the address of a stream.")
        engine = stack.enter_context(open_engine(model, backend))
        if "batch" not in engine.manifest.dynamic:
            advice = "Export it with: nddr-export CHECKPOINT --dynamic batch (a .trt: nddr-build --batch 1,4,8)"
            raise ConfigError(f"{model} takes {engine.manifest.batch} at once; expected an open batch. {advice}")
        make_folder(output)
        tasks, sinks = engine.manifest.tasks, {}
        for camera, path in zip(cameras, paths, strict=True):
            sinks[camera] = VideoSink(path, camera.source.info, Layout(tasks).compose)
            stack.callback(sinks[camera].abort)  # leaves alone what is closed by then
        with suppress(KeyboardInterrupt):
            for taken in rounds(cameras, news):
                for (camera, _), result in zip(taken, run_batch(engine, [frame for _, frame in taken]), strict=True):
                    sinks[camera].write(result)
                sizes.append(len(taken))
        for sink in sinks.values():
            sink.close()
    print(f"{len(sizes)} passes, {sum(sizes) / max(len(sizes), 1):.2f} pictures each, in {output}")
    problems = [f"error: {problem}\n" for camera in cameras for problem in camera.problems()]
    sys.stderr.writelines(problems)
    return 1 if problems else 0


def main(argv: Sequence[str]) -> int:
    parser = Parser("cameras.py", str(__doc__))
    parser.add_argument("model", help="an .onnx file, or a .trt engine of nddr-build, with an open batch")
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="a video, camera:0, or an rtsp:// address")
    parser.add_argument("--output", type=Path, default=Path("runs/cameras"), help="folder of videos (%(default)s)")
    parser.add_argument("--backend", help="that runs the model (default: by its suffix)")
    return run_cameras(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(run_command(main))
