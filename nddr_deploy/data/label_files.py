"""Reading one file of dense labels, checked against its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nddr_deploy.errors import InputError
from nddr_deploy.tasks import IGNORE_LABEL
from nddr_deploy.tasks.base import Array

UNIT_TOLERANCE = 0.02  # of a normal's length: float16 files are off by less than 0.001


def read_segmentation(file: Path, size_hw: tuple[int, int], classes: int) -> Array:
    """8-bit PNG -> (H, W) uint8, 0 .. classes - 1 or 255."""
    labels = read_map(file, ("L", "P", "1"), "8-bit labels in one channel").astype(np.uint8)
    _check_size(file, labels, size_hw)
    wrong = labels[(labels >= classes) & (labels != IGNORE_LABEL)]
    if wrong.size:
        raise InputError(
            f"{file} holds the label {wrong.max()}; classes.txt names {classes} classes, so 0 to {classes - 1} "
            f"and {IGNORE_LABEL} (not labelled) are expected."
        )
    return labels


def read_binary(file: Path, size_hw: tuple[int, int]) -> Array:
    """8-bit PNG -> (H, W) uint8, 0, 1 or 255. A mask of 0 and 255, where 255 may mean yes, is refused."""
    labels = read_map(file, ("L", "P", "1"), "0, 1 and 255 in one channel").astype(np.uint8)
    _check_size(file, labels, size_hw)
    found = np.unique(labels).tolist()
    if not set(found) <= {0, 1, IGNORE_LABEL} or found == [0, IGNORE_LABEL]:
        raise InputError(
            f"{file} holds the values {', '.join(map(str, found[:5]))}{', ...' if len(found) > 5 else ''}; expected 0 "
            f"(no), 1 (yes) and {IGNORE_LABEL} (not labelled). Divide a mask of 0 and 255 by 255."
        )
    return labels


def read_depth(file: Path, size_hw: tuple[int, int]) -> Array:
    """16-bit PNG in millimetres, or .npy in metres -> (H, W) float32 metres, 0 = unknown."""
    if file.suffix == ".npy":
        depth = read_array(file)
        _check_size(file, depth, size_hw)
        if not np.isfinite(depth).all() or depth.min() < 0:
            raise InputError(f"{file} holds depths that are negative or not finite; expected metres, 0 = unknown.")
        return depth.astype(np.float32)
    millimetres = read_map(file, ("I;16", "I;16B", "I"), "16-bit millimetres in one channel")
    _check_size(file, millimetres, size_hw)
    return millimetres.astype(np.float32) / np.float32(1000)


def read_normals(file: Path, size_hw: tuple[int, int]) -> Array:
    """.npy -> (H, W, 3) float32 unit vectors toward the camera, zeros = unknown."""
    normals = read_array(file)
    if normals.ndim != 3 or normals.shape[2] != 3:
        raise InputError(f"{file} has the shape {normals.shape}; expected (height, width, 3).")
    _check_size(file, normals, size_hw)
    normals = normals.astype(np.float32)
    length = np.linalg.norm(normals, axis=2)
    known = length > 0.5
    if not (np.abs(length[known] - 1) < UNIT_TOLERANCE).all() or (length[~known] > UNIT_TOLERANCE).any():
        raise InputError(f"{file} holds normals that are not unit vectors (nor 0 0 0 for unknown). Normalise them.")
    if known.any() and (normals[known][:, 2] > 0).mean() > 0.5:
        raise InputError(
            f"{file}: most normals point away from the camera; expected x right, y down, z forward, so z below 0."
        )
    normals[known] /= length[known, None]
    return normals


def read_map(file: Path, modes: tuple[str, ...], expected: str) -> Array:
    """A one-channel picture's values as they are stored.

    Raises:
        InputError: it cannot be read, or is of another mode.
    """
    from PIL import Image

    try:
        with Image.open(file) as picture:
            picture.load()
            mode, values = picture.mode, np.asarray(picture)
    except Exception as error:
        raise InputError(f"{file} cannot be read as a picture: {str(error).rstrip('.')}.") from error
    if mode not in modes:
        raise InputError(f"{file} is a picture of mode {mode}; expected {expected}.")
    return values


def read_array(file: Path, kinds: str = "f") -> Array:
    """An array of floats from an .npy file, or of other kinds of numbers (numpy's letters b, u, i, f).

    Raises:
        InputError: it is none.
    """
    try:
        values = np.load(file, allow_pickle=False)
    except Exception as error:  # damaged headers are met by a parser of Python, with errors of its own
        raise InputError(f"{file} cannot be read as a numpy array: {error}.") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in kinds:
        what = "floats" if kinds == "f" else "numbers"
        raise InputError(f"{file} holds {getattr(values, 'dtype', 'an archive')}; expected an array of {what}.")
    return values


def _check_size(file: Path, values: Array, size_hw: tuple[int, int]) -> None:
    if values.shape[:2] != size_hw or values.ndim < 2:
        raise InputError(
            f"{file} has the shape {values.shape}; its picture is {size_hw[0]}x{size_hw[1]} (height x width). "
            f"Labels must lie on the picture pixel by pixel."
        )
