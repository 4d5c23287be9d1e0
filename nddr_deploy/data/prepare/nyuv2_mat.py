"""The official file, nyu_depth_v2_labeled.mat: MATLAB 7.3, which is HDF5 with every array's axes reversed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nddr_deploy import optional
from nddr_deploy.data.prepare.frame import Frame
from nddr_deploy.data.prepare.nyuv2_meta import Meta, read_meta
from nddr_deploy.data.prepare.nyuv2_source import NyuSource, identity_of
from nddr_deploy.errors import InputError
from nddr_deploy.tasks.base import Array

ARRAYS = {"images": ("uint8", 4), "depths": ("float32", 3), "labels": ("uint16", 3)}  # kind of number, axes


def official_file(path: Path, meta_folder: Path | None) -> NyuSource:
    """The labelled frames of the official file, one after the other read from the disk.

    images (N, 3, W, H) uint8, depths (N, W, H) float32 metres, labels (N, W, H) uint16 with 0 = not labelled, names:
    N strings. Frames are called by their number, from 0001.

    Raises:
        InputError: no such file, arrays missing or of another shape, or the tables beside it missing.
        MissingPackageError: h5py or scipy is not installed.
    """
    folders = [meta_folder] if meta_folder is not None else [path.parent]
    meta = read_meta(folders, needed=("splits.mat", "classMapping40.mat"))
    file = _open(path)
    with _readable(str(path)):
        count = _check_arrays(file, path)
        classes = _count_names(file, path)
    to40 = meta.to40
    if to40 is None or len(to40) - 1 != classes:
        known = 0 if to40 is None else len(to40) - 1
        raise InputError(f"{path} names {classes} classes, classMapping40.mat {known}. Get both again.")
    splits = {f"{number:04d}": meta.splits[number] for number in range(1, count + 1) if number in meta.splits}
    if not splits:
        raise InputError(f"splits.mat names none of the {count} frames of {path}.")
    dropped = {
        "in no official split": count - len(splits),
        "named by splits.mat but not in the file": len(meta.splits) - len(splits),
    }
    names = {"segmentation": meta.names40}
    if meta.to13 is not None:
        names["segmentation13"] = meta.names13
    return NyuSource(
        layout="official labelled file (MATLAB 7.3)",
        identity=identity_of("nyu_depth_v2_labeled", {f"{count} frames": path}, meta),
        splits=splits,
        read=lambda name: _frame(file, path, int(name) - 1, to40, meta),
        classes=names,
        dropped={reason: frames for reason, frames in dropped.items() if frames},
    )


def _open(path: Path) -> Any:
    h5py = optional.load("h5py", extra="data")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if not path.is_file():
            raise InputError(f"{path} does not exist.") from error
        raise InputError(
            f"{path} is no MATLAB 7.3 file, or is damaged or cut off; expected nyu_depth_v2_labeled.mat (2.8 GB)."
        ) from error


@contextmanager
def _readable(where: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # h5py raises many kinds for damaged files
        raise InputError(f"{where}: cannot be read, for the file is damaged ({error}). Copy it again.") from error


def _check_arrays(file: Any, path: Path) -> int:
    """The number of frames; InputError where arrays do not fit one another."""
    for name, (kind, axes) in ARRAYS.items():
        found = _inside(file, path, name)
        if found is None or not hasattr(found, "shape") or found.dtype != np.dtype(kind) or len(found.shape) != axes:
            what = "nothing" if found is None else f"{getattr(found, 'dtype', '')} {getattr(found, 'shape', '')}"
            raise InputError(f"{path}: {name} is {what}; expected {kind} with {axes} axes, as in the official file.")
    count, channels, width, height = file["images"].shape
    if channels != 3:
        raise InputError(f"{path}: images has the shape {file['images'].shape}; expected (N, 3, W, H).")
    for name in ("depths", "labels"):
        if file[name].shape != (count, width, height):
            raise InputError(f"{path}: {name} has the shape {file[name].shape}; expected {(count, width, height)}.")
    return int(count)


def _inside(file: Any, path: Path, name: str) -> Any:
    """What is in the file under a name, or None; InputError where that lies in another file, as HDF5 allows."""
    h5py = optional.load("h5py", extra="data")
    link = file.get(name, getlink=True)
    found = file[name] if isinstance(link, h5py.HardLink) else None
    if (found is None and link is not None) or getattr(found, "external", None) or getattr(found, "is_virtual", False):
        raise InputError(f"{path}: {name} lies in another file; expected everything in one, as it is published.")
    return found


def _count_names(file: Any, path: Path) -> int:
    names = _inside(file, path, "names")
    if names is None or getattr(getattr(names, "dtype", None), "kind", "") != "O":
        raise InputError(f"{path}: names is missing; expected references to the classes' names.")
    return int(np.size(names))


def _frame(file: Any, path: Path, index: int, to40: Array, meta: Meta) -> Frame:
    where = f"{path}, frame {index + 1}"
    with _readable(where):
        image, depth, labels = (file[name][index] for name in ARRAYS)
    if labels.max() >= len(to40):
        raise InputError(f"{where}: the label {labels.max()} is beyond the {len(to40) - 1} classes that are named.")
    fine = to40[labels.T]
    coarse = meta.coarse(fine)
    return Frame(
        image=np.ascontiguousarray(image.transpose(2, 1, 0)),
        labels={"segmentation": fine, **({} if coarse is None else {"segmentation13": coarse})},
        depth=np.ascontiguousarray(depth.T),
    )
