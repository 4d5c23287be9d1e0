"""What an output is, by its name, and the sink that writes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nddr_deploy.errors import ConfigError, OutputError, unknown_choice
from nddr_deploy.inference.base import Result, Sink, SourceInfo
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Task

VIDEO_OUTPUTS = (".mp4", ".mov", ".mkv")
PICTURE_OUTPUTS = (".png", ".jpg", ".jpeg")
Draw = Callable[[Result], Image]
FORMATS = ("pictures", "npz", "png16", "jsonl")


@dataclass(frozen=True)
class Output:
    """What is to be written where.

    Attributes:
        path: a file or a folder.
        form: key of `SINKS`.
        folder: many files are written into `path`, which is a folder.
    """

    path: Path
    form: str
    folder: bool


def find_output(spec: str | os.PathLike[str], format: str | None = None) -> Output:
    """A file by its suffix; without one, or where a folder of that name exists, a folder.

    Args:
        spec: the file or folder.
        format: one of FORMATS, of what goes into a folder; None is "pictures".

    Raises:
        ConfigError: an unknown suffix or format, or a format that the file's suffix contradicts.
    """
    path, text = Path(spec), os.fspath(spec)
    if format is not None and format not in FORMATS:
        raise unknown_choice("format", format, FORMATS)
    suffix = path.suffix.lower()
    if path.is_dir() or not suffix or text.endswith(os.sep):
        return Output(path, format or "pictures", folder=True)
    if suffix not in FORMS:
        raise ConfigError(
            f"The output {text!r} has an unknown suffix. Expected one of {', '.join(FORMS)}, "
            "or a folder: a name without a suffix, or with a / at its end."
        )
    if format is not None and format != FORMS[suffix]:
        raise ConfigError(
            f"--format {format} writes into a folder; the output {text!r} is one file. Leave one of them out."
        )
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist. Create it, or choose another output.")
    return Output(path, FORMS[suffix], folder=False)


def open_sink(output: Output, info: SourceInfo, tasks: Sequence[Task], draw: Draw, *, audio: bool = True) -> Sink:
    """The sink for one source.

    Args:
        output: from `find_output`.
        info: of the source.
        tasks: those whose results are stored.
        draw: one result -> RGB uint8, as `Layout.compose`.
        audio: take a video's audio along.

    Raises:
        ConfigError: the output cannot hold what the source gives.
        OutputError, InputError: it cannot be written there.
    """
    if output.form == "video" and info.kind == "pictures":
        raise ConfigError(
            f"{info.name}: pictures have no times, so no video can be made of them. Choose a folder as output."
        )
    one = output.form in ("pictures", "npz") and not output.folder
    if one and (info.kind != "pictures" or info.frames != 1):
        raise ConfigError(f"{output.path} holds one result, but {info.name} gives many. Choose a folder as output.")
    if output.folder:
        from nddr_deploy.inference.file_sinks import make_folder

        make_folder(output.path)
    return SINKS[output.form](output, info, tasks, draw, audio)


def _video(output: Output, info: SourceInfo, tasks: Sequence[Task], draw: Draw, audio: bool) -> Sink:
    from nddr_deploy.inference.video_sink import VideoSink

    return VideoSink(output.path, info, draw, audio=audio)


def _pictures(output: Output, info: SourceInfo, tasks: Sequence[Task], draw: Draw, audio: bool) -> Sink:
    from nddr_deploy.inference.file_sinks import PictureSink

    path = output.path
    return PictureSink(lambda frame: path / f"{frame.name}.png" if output.folder else path, draw, [path])


def _npz(output: Output, info: SourceInfo, tasks: Sequence[Task], draw: Draw, audio: bool) -> Sink:
    from nddr_deploy.inference.file_sinks import ArraySink

    path = output.path
    return ArraySink(lambda frame: path / f"{frame.name}.npz" if output.folder else path, tasks, [path])


def _png16(output: Output, info: SourceInfo, tasks: Sequence[Task], draw: Draw, audio: bool) -> Sink:
    from nddr_deploy.inference.file_sinks import MapSink

    return MapSink(output.path, tasks)


def _jsonl(output: Output, info: SourceInfo, tasks: Sequence[Task], draw: Draw, audio: bool) -> Sink:
    from nddr_deploy.inference.file_sinks import JsonLinesSink

    if output.folder:
        return JsonLinesSink({output.path / f"{task.name}.jsonl": [task] for task in tasks})
    return JsonLinesSink({output.path: tasks})


SINKS: dict[str, Callable[[Output, SourceInfo, Sequence[Task], Draw, bool], Sink]] = {
    "video": _video,
    "pictures": _pictures,
    "npz": _npz,
    "png16": _png16,
    "jsonl": _jsonl,
}
FORMS = {
    **dict.fromkeys(VIDEO_OUTPUTS, "video"),
    **dict.fromkeys(PICTURE_OUTPUTS, "pictures"),
    ".npz": "npz",
    ".jsonl": "jsonl",
}
