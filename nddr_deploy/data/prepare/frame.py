"""One frame of an indoor data set on its way into the layout of `folder`: checked, written, and written only once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nddr_deploy.errors import InputError
from nddr_deploy.files import finished_file
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import IGNORE_LABEL, Array

FARTHEST_M = 100.0
MILLIMETRES = 65535  # the most that 16 bits hold


@dataclass(frozen=True)
class Frame:
    """A picture and what is known of it, in our conventions.

    Attributes:
        image: RGB uint8 (H, W, 3).
        labels: sub-folder ("segmentation", "segmentation13") -> (H, W) uint8, 255 = not labelled.
        depth: (H, W) float32 metres, 0 = missing; None: not known at all.
        normals: (H, W, 3) float32 unit vectors toward the camera, 0 = missing; None: not known at all.
        edge: (H, W) uint8, 0, 1 and 255; None: not known at all.
    """

    image: Image
    labels: dict[str, Array]
    depth: Array | None = None
    normals: Array | None = None
    edge: Array | None = None


def check_frame(frame: Frame, where: str, classes: dict[str, int]) -> None:
    """Refuse what does not lie on its picture, or holds what it cannot.

    Args:
        where: file, or file and number, for the message.
        classes: sub-folder -> number of classes.

    Raises:
        InputError: the first thing that is wrong.
    """
    size_hw = frame.image.shape[:2]
    if frame.image.dtype != np.uint8 or frame.image.shape[2:] != (3,):
        raise InputError(f"{where}: the picture is {frame.image.dtype} {frame.image.shape}; expected uint8 (H, W, 3).")
    maps = {**frame.labels, "depth": frame.depth, "normals": frame.normals, "edge": frame.edge}
    for name, values in maps.items():
        if values is not None and values.shape[:2] != size_hw:
            raise InputError(
                f"{where}: {name} has {values.shape[0]}x{values.shape[1]} pixels, the picture {size_hw[0]}x"
                f"{size_hw[1]}. They must lie on each other."
            )
    for name, labels in frame.labels.items():
        wrong = labels[(labels >= classes[name]) & (labels != IGNORE_LABEL)]
        if wrong.size:
            raise InputError(
                f"{where}: {name} holds the label {wrong.max()}; expected 0 to {classes[name] - 1}, or {IGNORE_LABEL}."
            )
    if frame.depth is not None and not (
        np.isfinite(frame.depth).all() and frame.depth.min() >= 0 and frame.depth.max() <= FARTHEST_M
    ):
        raise InputError(f"{where}: depth goes beyond 0 to {FARTHEST_M:g} m, or is not a number; expected metres.")
    if frame.normals is not None:
        known = frame.normals[(frame.normals != 0).any(axis=2)]
        if len(known) and (known[:, 2] > 0).mean() > 0.5:
            raise InputError(
                f"{where}: most normals point away from the camera. Say with --normals-axes what their components "
                "stand for."
            )


def write_frame(frame: Frame, folder: Path, name: str) -> None:
    """Write a frame's files; each appears whole, and the picture last: with it the frame is there."""
    for part, labels in frame.labels.items():
        _write(folder / part / f"{name}.png", partial(_save_png, values=labels))
    if frame.edge is not None:
        _write(folder / "edge" / f"{name}.png", partial(_save_png, values=frame.edge))
    if frame.normals is not None:
        _write(folder / "normals" / f"{name}.npy", partial(_save_npy, values=frame.normals.astype(np.float16)))
    if frame.depth is not None:
        millimetres = as_millimetres(frame.depth)
        if millimetres is None:
            _write(folder / "depth" / f"{name}.npy", partial(_save_npy, values=frame.depth.astype(np.float32)))
        else:
            _write(folder / "depth" / f"{name}.png", partial(_save_png, values=millimetres))
    _write(folder / "images" / f"{name}.png", partial(_save_png, values=frame.image))


def is_written(folder: Path, name: str) -> bool:
    """Whether `write_frame` came to its end."""
    return (folder / "images" / f"{name}.png").is_file()


def as_millimetres(depth: Array) -> Array | None:
    """(H, W) uint16, where that says exactly the same; else None."""
    millimetres = np.rint(depth.astype(np.float64) * 1000)
    if millimetres.max(initial=0) > MILLIMETRES:
        return None
    exact = millimetres.astype(np.uint16)
    same = np.array_equal(exact.astype(np.float32) / np.float32(1000), depth)
    return exact if same else None


def _write(path: Path, save: Callable[[Path], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with finished_file(path) as temporary:
        save(temporary)


def _save_png(path: Path, values: Any) -> None:
    from PIL import Image as pillow

    pillow.fromarray(values).save(path, format="PNG")


def _save_npy(path: Path, values: Array) -> None:
    with open(path, "wb") as file:  # by its name alone, numpy would add a suffix
        np.save(file, values)
