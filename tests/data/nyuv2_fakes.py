"""NYU Depth v2 in small: the official file's layout, and the tables published beside it."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from PIL import Image

from nddr_deploy.data.prepare.depth_to_normals import Intrinsics
from nddr_deploy.data.prepare.nyuv2_source import CAMERA

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


def npz_frame(path: Path, height: int = 18, width: int = 22, **changes: np.ndarray) -> dict[str, np.ndarray]:
    """One frame of the small public form: a level floor everywhere, 2 m away."""
    random = np.random.default_rng(4)
    arrays = {
        "image_u8": random.integers(0, 256, (height, width, 3)).astype(np.uint8),
        "depth_m": np.full((height, width), 2.0, np.float32),
        "label13_minus1void": random.integers(-1, 13, (height, width)).astype(np.int8),
        "normal": np.full((height, width, 3), (0, 0, 1), np.float16),  # right, away, up
        **changes,
    }
    np.savez_compressed(path, **arrays)
    return arrays


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


def rays(camera: Intrinsics, height: int, width: int) -> np.ndarray:
    """(H, W, 3): the direction of every pixel, one metre deep."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    across, down = (columns - camera.centre_x) / camera.focal_x, (rows - camera.centre_y) / camera.focal_y
    return np.stack([across, down, np.ones((height, width))], axis=2)


def survey_archive(folder: Path, names: tuple[str, ...] = ("a", "b", "c")) -> dict[str, np.ndarray]:
    """The archive of the multi-task survey, in small: a corner of a room, so that axes can be told."""
    planes = {"floor": ((0.0, -1.0, 0.0), 1.2), "wall": ((0.6, 0.0, -0.8), 3.0)}
    depths = {}
    for name, (normal, distance) in planes.items():
        facing = -(rays(CAMERA.scaled(64), 48, 64) @ np.array(normal))
        depths[name] = np.where(facing > 1e-3, distance / np.where(facing > 1e-3, facing, 1), np.inf)
    depth = np.minimum(depths["floor"], depths["wall"]).astype(np.float32)
    ours = np.where((depths["floor"] < depths["wall"])[..., None], planes["floor"][0], planes["wall"][0])
    stored = (ours * [1, -1, -1]).astype(np.float32)  # x right, y up, z toward the camera
    random = np.random.default_rng(1)
    for part in ("images", "segmentation", "normals", "depth", "edge", "gt_sets"):
        (folder / part).mkdir(parents=True)
    labels = random.integers(0, 41, (48, 64)).astype(np.uint8)
    for name in names:
        Image.fromarray(random.integers(0, 256, (48, 64, 3)).astype(np.uint8)).save(folder / "images" / f"{name}.jpg")
        Image.fromarray(labels).save(folder / "segmentation" / f"{name}.png")
        np.save(folder / "normals" / f"{name}.npy", stored)
        np.save(folder / "depth" / f"{name}.npy", depth)
        np.save(folder / "edge" / f"{name}.npy", (labels > 20).astype(np.float32))
    (folder / "gt_sets" / "train.txt").write_text("a\nb\n")
    (folder / "gt_sets" / "val.txt").write_text("c\n")
    return {"labels": labels, "depth": depth, "normals": ours}


def with_lists(folder: Path, line: str = "/images/one.png /seg/one.png") -> None:
    for part in ("images", "seg", "normal", "list"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(2)
    Image.fromarray(random.integers(0, 256, (20, 24, 3)).astype(np.uint8)).save(folder / "images" / "one.png")
    labels = random.integers(0, 40, (20, 24)).astype(np.uint8)
    labels[0] = 255
    Image.fromarray(labels).save(folder / "seg" / "one.png")
    colours = np.full((20, 24, 3), (128, 255, 128), np.uint8)  # up
    colours[0] = 255
    Image.fromarray(colours).save(folder / "normal" / "one.png")
    (folder / "list" / "training_seg.txt").write_text(f"{line}\n")
    (folder / "list" / "training_normal_mask.txt").write_text("/images/one.png /normal/one.png\n")
    for part in ("seg", "normal_mask"):
        (folder / "list" / f"testing_{part}.txt").write_text("")
