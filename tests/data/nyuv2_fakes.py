"""NYU Depth v2 in small: the official file's layout, and the tables published beside it."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import scipy.io

CLASSES = 894


def scenes(count: int, height: int = 26, width: int = 34, seed: int = 0) -> dict[str, np.ndarray]:
    """images (N, H, W, 3), depths (N, H, W), labels (N, H, W) of 0 .. 894, as a person thinks of them."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES + 1, (count, height, width)).astype(np.uint16)
    labels[:, :2] = 0
    return {
        "images": random.integers(0, 256, (count, height, width, 3)).astype(np.uint8),
        "depths": (0.7 + 9.2 * random.random((count, height, width))).astype(np.float32),
        "labels": labels,
    }


def write_official(path: Path, arrays: dict[str, np.ndarray], classes: int = CLASSES) -> None:
    """As MATLAB 7.3 writes it: axes reversed, names as references to arrays of letters."""
    path.write_bytes(_names_alone(classes))
    with h5py.File(path, "r+") as file:
        file["images"] = arrays["images"].transpose(0, 3, 2, 1)
        file["depths"] = arrays["depths"].transpose(0, 2, 1)
        file["labels"] = arrays["labels"].transpose(0, 2, 1)


@cache
def _names_alone(classes: int) -> bytes:
    """A file that holds nothing but the names, for writing hundreds of them takes a second."""
    content = io.BytesIO()
    with h5py.File(content, "w", userblock_size=512) as file:
        references = []
        for number in range(classes):
            letters = np.array([[ord(letter)] for letter in f"thing {number}"], np.uint16)
            references.append(file.create_dataset(f"#refs#/{number}", data=letters).ref)
        file.create_dataset("names", data=np.array([references], h5py.ref_dtype), dtype=h5py.ref_dtype)
    return content.getvalue()


def write_meta(folder: Path, frames: int) -> dict[str, np.ndarray]:
    """splits.mat (every third frame is for training), classMapping40.mat, class13Mapping.mat. Returns the two maps."""
    random = np.random.default_rng(5)
    to40 = random.integers(1, 41, CLASSES).astype(np.uint8)
    to13 = random.integers(1, 14, 40).astype(np.uint8)
    numbers = np.arange(1, frames + 1)
    scipy.io.savemat(
        folder / "splits.mat",
        {
            "trainNdxs": numbers[numbers % 3 == 0][:, None].astype(np.uint16),
            "testNdxs": numbers[numbers % 3 != 0][:, None].astype(np.uint16),
        },
    )
    scipy.io.savemat(
        folder / "classMapping40.mat", {"mapClass": to40[None], "className": _cells(f"forty {i}" for i in range(1, 41))}
    )
    coarse = {"labels13": to13[None], "classNames": _cells(f"coarse {i}" for i in range(1, 14))}
    scipy.io.savemat(folder / "class13Mapping.mat", {"classMapping13": coarse})
    return {"to40": to40, "to13": to13}


def _cells(names: object) -> np.ndarray:
    names = list(names)  # type: ignore[call-overload]
    cells = np.empty((1, len(names)), object)
    cells[0, :] = names
    return cells
