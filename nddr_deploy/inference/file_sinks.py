"""Results as files: drawn pictures, arrays, 16-bit pictures, JSON lines. Every file is whole or not there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from nddr_deploy.errors import OutputError, UnsupportedError
from nddr_deploy.files import finished_file
from nddr_deploy.inference.base import Frame, Result
from nddr_deploy.inference.summary import summarise
from nddr_deploy.inference.unfinished import UnfinishedFile, told_as_output
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array, Task
from nddr_deploy.tasks.binary import Binary
from nddr_deploy.tasks.depth import Depth
from nddr_deploy.tasks.normals import Normals
from nddr_deploy.tasks.segmentation import Segmentation

PathOf = Callable[[Frame], Path]


class PictureSink:
    """One drawn picture a frame.

    Args:
        path_of: the file for a frame; its suffix chooses the format.
        draw: one result -> RGB uint8.
        paths: what the report names.
    """

    def __init__(self, path_of: PathOf, draw: Callable[[Result], Image], paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.seconds = {"draw": 0.0, "encode": 0.0}
        self._path_of = path_of
        self._draw = draw

    def write(self, result: Result) -> None:
        start = time.perf_counter()
        picture = self._draw(result)
        drawn = time.perf_counter()
        write_picture(self._path_of(result.frame), picture)
        self.seconds["draw"] += drawn - start
        self.seconds["encode"] += time.perf_counter() - drawn

    def close(self) -> None:
        """Every picture is finished already."""

    def abort(self) -> None:
        """Finished pictures stay: each is whole."""


class ArraySink:
    """One `.npz` a frame: every task's decoded result under its name, in the task's unit; the time as `time_s` (NaN
    where there is none)."""

    def __init__(self, path_of: PathOf, tasks: Sequence[Task], paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self._path_of = path_of
        self._tasks = tuple(tasks)

    def write(self, result: Result) -> None:
        path, frame = self._path_of(result.frame), result.frame
        arrays: dict[str, Any] = {task.name: result.decoded[task.name] for task in self._tasks}
        arrays.setdefault("time_s", np.float64(np.nan if frame.time_s is None else float(frame.time_s)))
        with told_as_output(path), finished_file(path) as temporary:
            np.savez_compressed(temporary, **arrays)

    def close(self) -> None:
        """Every file is finished already."""

    def abort(self) -> None:
        """Finished files stay: each is whole."""


class MapSink:
    """One lossless PNG per frame and dense task, `TASK/NAME.png`, for other programs to read.

    segmentation: 8 bits, the label. depth: 16 bits, millimetres (65535 at most). normals: 16 bits RGB, a component n
    as (n + 1) / 2 * 65535. binary: 16 bits, the probability p as p * 65535. What pooled tasks say goes to `TASK.jsonl`.

    Raises:
        UnsupportedError: a dense task of another kind, which has no such form.
    """

    def __init__(self, folder: Path, tasks: Sequence[Task]) -> None:
        self.paths = [folder]
        self._folder = folder
        self._tasks = [task for task in tasks if task.head == "dense"]
        for task in self._tasks:
            if not isinstance(task, tuple(MAPS)):
                raise UnsupportedError(f"{task.name}: {task.kind} results have no 16-bit picture. Choose --format npz.")
            make_folder(folder / task.name)
        pooled = [task for task in tasks if task.head == "pooled"]
        self._lines = JsonLinesSink({folder / f"{task.name}.jsonl": [task] for task in pooled})

    def write(self, result: Result) -> None:
        for task in self._tasks:
            encode = next(encode for kind, encode in MAPS.items() if isinstance(task, kind))
            write_picture(self._folder / task.name / f"{result.frame.name}.png", encode(result.decoded[task.name]))
        self._lines.write(result)

    def close(self) -> None:
        self._lines.close()

    def abort(self) -> None:
        self._lines.abort()


class JsonLinesSink:
    """One line a frame: its name, index, time, and the figures of `summary.summarise` per task.

    Args:
        files: path -> the tasks whose figures go there. Each takes its name only when the run is over.
    """

    def __init__(self, files: Mapping[Path, Sequence[Task]]) -> None:
        self.paths = list(files)
        self._files: list[tuple[UnfinishedFile, IO[str], Sequence[Task]]] = []
        for path, tasks in files.items():
            unfinished = UnfinishedFile(path)
            self._files.append((unfinished, unfinished.temporary.open("w", encoding="utf-8"), tasks))

    def write(self, result: Result) -> None:
        frame = result.frame
        time_s = None if frame.time_s is None else float(frame.time_s)
        head = {"name": frame.name, "index": frame.index, "time_s": time_s}
        for (_, file, tasks), path in zip(self._files, self.paths, strict=True):
            figures = {task.name: summarise(task, result.decoded[task.name]) for task in tasks}
            with told_as_output(path):
                file.write(json.dumps({**head, **figures}, ensure_ascii=False) + "\n")

    def close(self) -> None:
        for (unfinished, file, _), path in zip(self._files, self.paths, strict=True):
            with told_as_output(path):
                file.close()
                unfinished.finish()

    def abort(self) -> None:
        for unfinished, file, _ in self._files:
            file.close()
            unfinished.discard()


def write_picture(path: Path, picture: Array) -> None:
    """RGB uint8 / uint16 (H, W, 3), or one channel (H, W), in the format of the suffix.

    Raises:
        OutputError: it cannot be written.
    """
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    with told_as_output(path), finished_file(path) as temporary:
        works, data = cv2.imencode(path.suffix.lower(), bgr, [cv2.IMWRITE_JPEG_QUALITY, 95] if _is_jpeg(path) else [])
        if not works:
            raise OutputError(
                f"{path}: a picture of {picture.shape[1]}x{picture.shape[0]} cannot be stored in this format."
            )
        temporary.write_bytes(data.tobytes())


def make_folder(path: Path) -> None:
    """The folder, and those above it.

    Raises:
        OutputError: a file has this name, or nothing may be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {path} cannot be made: {error.strerror}.") from error


def _is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg")


def _millimetres(metres: Array) -> Array:
    return np.rint(np.clip(metres * 1000.0, 0, 65535)).astype(np.uint16)


def _sixteen_bits(normals: Array) -> Array:
    return np.rint(np.clip((normals + 1.0) * 32767.5, 0, 65535)).astype(np.uint16)


def _of_65535(probability: Array) -> Array:
    return np.rint(np.clip(probability, 0, 1) * 65535.0).astype(np.uint16)


MAPS: dict[type[Task], Callable[[Array], Array]] = {
    Segmentation: lambda labels: labels,
    Depth: _millimetres,
    Normals: _sixteen_bits,
    Binary: _of_65535,
}
