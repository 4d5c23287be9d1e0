"""What an input is, and the source that reads it."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nddr_deploy.data.pictures import PICTURE_SUFFIXES
from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.inference.addresses import STREAM_SCHEMES, display_address, scheme_of
from nddr_deploy.inference.base import Source

VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp",
    ".ogv",
)  # fmt: skip
LIST_SUFFIXES = (".txt", ".lst")
RECONNECT_S = 60.0


@dataclass(frozen=True)
class Inputs:
    """What an input stands for, before anything is opened.

    Attributes:
        name: for people; without passwords.
        pictures, videos: files, in the order in which they are done.
        address: of a stream or a camera; None for files.
        many: a folder, a pattern or a list: one file that fails does not end the run.
    """

    name: str
    pictures: tuple[Path, ...] = ()
    videos: tuple[Path, ...] = ()
    address: str | None = None
    many: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        return self.pictures + self.videos


def find_inputs(spec: str | os.PathLike[str]) -> Inputs:
    """A file, a folder, a pattern, a list of files or an address -> what is to be done.

    A folder's files are taken in natural order (2 before 10), hidden ones and subfolders are left out, as is what is
    neither a picture nor a video by its suffix. A list (.txt) names one file a line, relative to the list's folder;
    lines that start with # are comments.

    Raises:
        InputError: it does not exist, or nothing in it is a picture or a video.
        ConfigError: an address of an unknown kind.
    """
    text = os.fspath(spec)
    if scheme_of(text):
        _opener(text)
        return Inputs(text if text.startswith("camera:") else display_address(text), address=text)
    path = Path(text)
    if path.is_dir():
        return _by_suffix(text, [file for file in path.iterdir() if file.is_file()])
    if path.exists():
        suffix = path.suffix.lower()
        if suffix in LIST_SUFFIXES:
            return _from_list(path)
        return Inputs(text, pictures=(path,)) if suffix in PICTURE_SUFFIXES else Inputs(text, videos=(path,))
    if glob.has_magic(text):
        return _by_suffix(text, [Path(file) for file in glob.glob(text) if Path(file).is_file()])  # noqa: PTH207 - any pattern, not below a folder
    raise InputError(
        f"The input {text!r} does not exist. Expected a video, a picture, a folder, a pattern such as 'photos/*.jpg', "
        "a list (.txt), camera:0, or an rtsp:// or http(s):// address."
    )


def _by_suffix(name: str, files: list[Path]) -> Inputs:
    ordered = sorted((file for file in files if not file.name.startswith(".")), key=lambda file: natural(str(file)))
    pictures = tuple(file for file in ordered if file.suffix.lower() in PICTURE_SUFFIXES)
    videos = tuple(file for file in ordered if file.suffix.lower() in VIDEO_SUFFIXES)
    if not pictures and not videos:
        raise InputError(f"{name}: none of its {len(ordered)} files is a picture or a video, by their suffixes.")
    return Inputs(name, pictures, videos, many=True)


def _from_list(path: Path) -> Inputs:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The list {path} cannot be read as text: {error}.") from error
    entries = [line.strip() for line in lines]
    files = [path.parent / entry for entry in entries if entry and not entry.startswith("#")]
    if not files:
        raise InputError(f"The list {path} names no file. Write one path a line, relative to the list's folder.")
    videos = tuple(file for file in files if file.suffix.lower() in VIDEO_SUFFIXES)
    return Inputs(str(path), tuple(file for file in files if file not in videos), videos, many=True)


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key under which "frame2" comes before "frame10"."""
    return [(int(part), "") if part.isdigit() else (0, part.lower()) for part in re.split(r"(\d+)", text)]


def open_source(spec: str | os.PathLike[str], *, reconnect_s: float = RECONNECT_S) -> Source:
    """Open an input of one kind: pictures, one video, or a live source.

    >>> for frame in open_source("walk.mp4"):          # doctest: +SKIP
    ...     print(frame.time_s, frame.image.shape)

    Args:
        spec: as for `find_inputs`.
        reconnect_s: how long to try to get a lost live source back, in seconds.

    Raises:
        InputError: as for `find_inputs`; UnreadableError where it exists but cannot be read.
        ConfigError: several videos, or pictures and videos: `infer` runs them one after the other.
    """
    inputs = find_inputs(spec)
    if inputs.address is not None:
        return open_address(inputs.address, reconnect_s=reconnect_s)
    if inputs.videos and len(inputs.files) > 1:
        raise ConfigError(
            f"{inputs.name} holds {len(inputs.pictures)} pictures and {len(inputs.videos)} videos; "
            "expected pictures only, or one video. Choose one of its files, or use `infer` for all of them."
        )
    if inputs.videos:
        return open_video(inputs.videos[0])
    return open_pictures(inputs)


def open_pictures(inputs: Inputs) -> Source:
    """The pictures of an input; one that fails ends the run only where it is the whole input."""
    from nddr_deploy.inference.pictures import PictureSource

    return PictureSource(inputs.pictures, inputs.name, strict=not inputs.many)


def open_video(path: Path) -> Source:
    """A video file."""
    from nddr_deploy.inference.video import VideoSource

    if not path.exists():
        raise InputError(f"The video {path} does not exist.")
    if path.is_file() and path.stat().st_size == 0:
        from nddr_deploy.errors import UnreadableError

        raise UnreadableError(f"The video {path} is empty (0 bytes). Copy it again.")
    return VideoSource(f"file:{path}", str(path))


def open_address(address: str, *, reconnect_s: float = RECONNECT_S) -> Source:
    """A camera or a stream."""
    return _opener(address)(address, reconnect_s)


def _camera(address: str, reconnect_s: float) -> Source:
    from nddr_deploy.inference.captures import CameraCapture
    from nddr_deploy.inference.live import LiveSource

    number = address.partition(":")[2]
    if not number.isdecimal():
        raise ConfigError(f"{address!r} names no camera. Write its number, as in camera:0.")
    return LiveSource(partial(CameraCapture, int(number)), f"camera {number}", reconnect_s=reconnect_s)


def _stream(address: str, reconnect_s: float) -> Source:
    from nddr_deploy.inference.captures import StreamCapture
    from nddr_deploy.inference.live import LiveSource

    return LiveSource(partial(StreamCapture, address), display_address(address), reconnect_s=reconnect_s)


def _http(address: str, reconnect_s: float) -> Source:
    """A file on a server has a length and is read like a file; what has none is live."""
    from nddr_deploy.inference.video import VideoSource, open_container

    with open_container(address, display_address(address)) as container:
        finite = bool(container.duration) or container.format.name.endswith("_pipe")
    return VideoSource(address, display_address(address)) if finite else _stream(address, reconnect_s)


SOURCES: dict[str, Callable[[str, float], Source]] = {
    "camera": _camera,
    **dict.fromkeys(STREAM_SCHEMES, _stream),
    "http": _http,
    "https": _http,
}


def _opener(address: str) -> Callable[[str, float], Source]:
    scheme = scheme_of(address)
    if scheme not in SOURCES:
        raise ConfigError(
            f"Addresses of the kind {scheme!r} are not known. Expected one of: {', '.join(SOURCES)}; or a file."
        )
    return SOURCES[scheme]
