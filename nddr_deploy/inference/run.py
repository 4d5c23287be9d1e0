"""From an engine, an input and an output to finished files: everything `nddr-infer` does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nddr_deploy.engines import open_engine
from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import ConfigError, InputError, unknown_choice
from nddr_deploy.files import finished_file
from nddr_deploy.inference.base import Source, SourceInfo
from nddr_deploy.inference.layout import Layout
from nddr_deploy.inference.pictures import unique_names
from nddr_deploy.inference.pipeline import run_pipeline
from nddr_deploy.inference.report import RunReport
from nddr_deploy.inference.sinks import Output, find_output, open_sink
from nddr_deploy.inference.sources import RECONNECT_S, Inputs, find_inputs, open_address, open_pictures, open_video
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import FIT_MODES, FitMode
from nddr_deploy.tasks.base import Task

Watch = Callable[[SourceInfo, int], None]


def infer(
    engine: Engine | str | os.PathLike[str],
    input: str | os.PathLike[str],  # the option's name
    output: str | os.PathLike[str],
    *,
    backend: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
    layout: str = "overlay",
    alpha: float = 0.5,
    fit: FitMode = "letterbox",
    tasks: Sequence[str] | None = None,
    format: str | None = None,
    audio: bool = True,
    batch: int | None = None,
    limit: int | None = None,
    reconnect_s: float = RECONNECT_S,
    report: str | os.PathLike[str] | None = None,
    watch: Watch | None = None,
) -> RunReport:
    """Run a model on an input and write what it found.

    >>> report = infer("model.onnx", "walk.mp4", "overlay.mp4")      # doctest: +SKIP
    >>> print(report.fps, report.bottleneck)                         # doctest: +SKIP

    A video gives a video, or a folder of results per frame; pictures give a folder. A folder (pattern, list) that holds
    videos too gives a folder: pictures first, then each video as `NAME.mp4`, or as a folder `NAME` for formats other
    than "pictures". There, an input that fails is told in `RunReport.problems` and the others are done.

    Args:
        engine: a model file, or an open engine (which stays open).
        input: a video, a picture, a folder, a pattern, a list (.txt), "camera:0", or an rtsp:// or http(s):// address.
        output: .mp4, .mov, .mkv; .png, .jpg or .npz for a single picture; .jsonl; or a folder. Overwritten if there.
        backend, threads, precision: as for `open_engine`; only where `engine` is a file.
        layout: "overlay", "grid" or "tiles".
        alpha: weight of colours over the frame in "overlay", 0..1.
        fit: "letterbox" keeps the frame's shape in the model's image, "stretch" does not.
        tasks: names of those that are drawn and stored; None is all. The model computes all of them anyway.
        format: of a folder: "pictures" (drawn), "npz", "png16" or "jsonl".
        audio: take a video's audio along.
        batch: frames per pass, where the model leaves it open.
        limit: frames to do at most, of each video, of a live source, or of all pictures.
        reconnect_s: how long to try to get a lost live source back, in seconds.
        report: a JSON file to write the report to.
        watch: called often with the source at work and the frames done.

    Raises:
        ConfigError: options that contradict each other, an unknown name, an output that would overwrite an input.
        InputError: the input does not exist. UnreadableError: the one file it is cannot be read.
        ModelFileError: the model cannot be used. OutputError: a result cannot be written.
    """
    if fit not in FIT_MODES:
        raise unknown_choice("fit", fit, FIT_MODES)
    inputs, target = find_inputs(input), find_output(output, format)
    refuse_overwriting(inputs, target, report)
    runs = list(plan(inputs, target, reconnect_s))
    total = RunReport()
    with ExitStack() as stack:
        first = runs[0].open() if len(runs) == 1 else None  # before the model is loaded: it may not be there
        if first is not None:
            stack.callback(first.close)
        running = engine if isinstance(engine, Engine) else stack.enter_context(
            open_engine(engine, backend, threads=threads, precision=precision)
        )  # fmt: skip
        chosen = choose_tasks(running.manifest, tasks)
        drawn = Layout(chosen, layout, alpha).compose
        for run in runs:
            try:
                source = first or run.open()
                sink = open_sink(run.output, source.info, chosen, drawn, audio=audio)
                progress = partial(watch, source.info) if watch else None
                done = run_pipeline(source, running, [sink], fit=fit, batch=batch, limit=limit, progress=progress)
                total.add(done)
            except InputError as error:
                if not inputs.many:
                    raise
                total.problems.append(str(error))
            if total.stopped:
                break
    if report is not None:
        with finished_file(report) as temporary:
            temporary.write_text(json.dumps(total.to_dict(), indent=1) + "\n", encoding="utf-8")
    return total


@dataclass(frozen=True)
class Run:
    """One source and where its results go."""

    open: Callable[[], Source]
    output: Output


def plan(inputs: Inputs, output: Output, reconnect_s: float) -> Iterator[Run]:
    """All pictures are one source; every video is one of its own, with its own output in a folder.

    Raises:
        ConfigError: several sources and an output that is one file.
    """
    if inputs.address is not None:
        yield Run(partial(open_address, inputs.address, reconnect_s=reconnect_s), output)
        return
    if inputs.many and inputs.videos and not output.folder:
        raise ConfigError(
            f"{inputs.name} holds {len(inputs.videos)} videos and {len(inputs.pictures)} pictures, "
            f"but {output.path} is one file. Choose a folder as output."
        )
    if inputs.pictures:
        yield Run(partial(open_pictures, inputs), output)
    for video, name in zip(inputs.videos, unique_names(inputs.videos), strict=True):
        yield Run(partial(open_video, video), _of_video(output, name) if inputs.many else output)


def _of_video(output: Output, name: str) -> Output:
    if output.form == "pictures":
        return Output(output.path / f"{name}.mp4", "video", folder=False)
    return Output(output.path / name, output.form, folder=True)


def choose_tasks(manifest: Manifest, names: Sequence[str] | None) -> tuple[Task, ...]:
    """The model's tasks of these names, in the model's order; None is all.

    Raises:
        ConfigError: a name that the model has no task for, or no name at all.
    """
    known = [task.name for task in manifest.tasks]
    for name in names or ():
        if name not in known:
            raise unknown_choice("tasks", name, known)
    if names is not None and not names:
        raise ConfigError(f"tasks: none was chosen. Choose some of: {', '.join(known)}.")
    return tuple(task for task in manifest.tasks if names is None or task.name in names)


def refuse_overwriting(inputs: Inputs, output: Output, report: str | os.PathLike[str] | None = None) -> None:
    """No output may take the place of an input: not by its name, a link, or a folder that is read and written.

    Raises:
        ConfigError: one would.
    """
    for written in (None if output.folder else output.path, None if report is None else Path(report)):
        for path in inputs.files:
            if written is not None and written.exists() and path.exists() and written.samefile(path):
                raise ConfigError(f"The output {written} is the input {path}. Choose another output.")
    if output.folder:
        folder = output.path.resolve()
        for path in inputs.files:
            parent = path.resolve().parent
            if folder == parent or (output.form != "pictures" and folder == parent.parent):  # those make subfolders
                raise ConfigError(
                    f"The output folder {output.path} holds the input {path}, which results could overwrite. "
                    "Choose another folder."
                )
