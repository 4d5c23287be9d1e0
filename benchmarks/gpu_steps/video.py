"""A video from end to end, and each stage of the pipeline alone: how much of the slowest stage's rate is reached."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from gpu_steps.pictures import video_path
from gpu_steps.work import Work
from nddr_deploy import infer, open_engine
from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import UnreadableError
from nddr_deploy.evaluate.decode import decode_outputs
from nddr_deploy.inference.base import Frame, Result, SourceInfo
from nddr_deploy.inference.layout import Layout
from nddr_deploy.inference.sinks import find_output, open_sink
from nddr_deploy.inference.sources import open_source
from nddr_deploy.preprocess import Fit, Image

WARM = 16  # frames that are not measured: kernels of resampling are compiled at the first one
CHUNK = 128  # results at once in memory while writing is measured

Fitted = tuple[Frame, Fit, Image]


def run(work: Work, network: str, variant: str | None) -> tuple[dict[str, Any], list[Path]]:
    """The FP16 engine; in a dry run, ONNX Runtime on the CPU."""
    model = work.path(network, f"{variant}.trt" if variant else "model.onnx")
    video, output = video_path(work), work.path(network, "walk.mp4")
    limit = work.settings.video_frames
    with open_engine(model) as engine:
        infer(engine, video, output, limit=WARM, audio=False)
        whole = infer(engine, video, output, limit=limit, audio=False)
        if not whole.frames:
            raise UnreadableError(f"{video}: it has no frame that can be measured.")
        alone = stages_alone(engine, video, output, whole.frames)
        again = infer(engine, video, output, limit=limit, audio=False)  # behind the stages, as the first is before them
        described = {"engine": engine.backend, "precision": engine.precision, "outputs": engine.manifest.outputs}
    fps = sorted([whole.fps, again.fps])
    slowest = min(("read", "infer", "write"), key=lambda stage: alone[stage])
    return {
        **described,
        "video": video.name,
        "frames": whole.frames,
        "fps": fps,
        "stages_s": whole.stages,
        "parts_s": whole.parts,
        "alone_fps": alone,
        "slowest_stage": slowest,
        "share": sum(fps) / 2 / alone[slowest],
        "problems": whole.problems,
    }, [output]


def stages_alone(engine: Engine, video: Path, output: Path, count: int) -> dict[str, float]:
    """Frames per second of every stage with nothing beside it, and of the parts that stages consist of.

    "read" (decoding and fitting), "infer" (the engine, and bringing results to the frame's size) and "write" (drawing
    and encoding) are the pipeline's three threads; "source", "fit" and "engine" are parts of them.
    """
    seconds = {"source": seconds_of(opened(video, count)), "read": seconds_of(fitted(engine, video, count))}
    pictures = list(fitted(engine, video, count))
    manifest = engine.manifest
    seconds["fit"] = seconds_of(fit.apply(frame.image, manifest.preprocess.mean_pixel) for frame, fit, _ in pictures)
    seconds["engine"] = seconds_of(engine.stream(image[None] for _, _, image in pictures))
    seconds["infer"] = seconds_of(results(engine, iter(pictures)))
    seconds["write"] = writing(engine, video, output, pictures)
    return {name: len(pictures) / spent for name, spent in seconds.items()}


def opened(video: Path, count: int) -> Iterator[Frame]:
    source = open_source(str(video))
    try:
        yield from islice(source, count)
    finally:
        source.close()


def fitted(engine: Engine, video: Path, count: int) -> Iterator[Fitted]:
    """What the pipeline's first thread does."""
    manifest = engine.manifest
    for frame in opened(video, count):
        fit = Fit.of((frame.image.shape[0], frame.image.shape[1]), manifest.size_hw)
        yield frame, fit, fit.apply(frame.image, manifest.preprocess.mean_pixel)


def results(engine: Engine, pictures: Iterator[Fitted]) -> Iterator[Result]:
    """What the second one does."""
    kept: list[Fitted] = []

    def images() -> Iterator[Image]:
        for item in pictures:
            kept.append(item)
            yield item[2][None]

    for outputs in engine.stream(images()):
        frame, fit, _ = kept.pop(0)
        yield Result(frame, decode_outputs(outputs, 0, engine.manifest, fit))


def writing(engine: Engine, video: Path, output: Path, pictures: list[Fitted]) -> float:
    """Seconds of the third thread's work. Results are made in between, a chunk at a time, and not counted."""
    tasks = engine.manifest.tasks
    made = results(engine, iter(pictures))
    first = next(made)
    sink = open_sink(find_output(output), info_of(video), tasks, Layout(tasks).compose, audio=False)
    seconds = 0.0
    left: Iterator[Result] = chain([first], made)
    while chunk := list(islice(left, CHUNK)):
        begun = time.perf_counter()
        for result in chunk:
            sink.write(result)
        seconds += time.perf_counter() - begun
    begun = time.perf_counter()
    sink.close()
    return seconds + time.perf_counter() - begun


def info_of(video: Path) -> SourceInfo:
    source = open_source(str(video))
    try:
        return source.info
    finally:
        source.close()


def seconds_of(work: Iterable[object]) -> float:
    """That it takes to get everything out of it."""
    begun = time.perf_counter()
    for _ in work:
        pass
    return time.perf_counter() - begun
