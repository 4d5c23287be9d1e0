"""Public pre-processed forms of NYU Depth v2 that are folders of pictures and arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nddr_deploy.data.label_files import read_array, read_depth, read_map
from nddr_deploy.data.pictures import PICTURE_SUFFIXES, read_picture
from nddr_deploy.data.prepare.frame import Frame
from nddr_deploy.data.prepare.normals_axes import Axes, axes_that_fit, in_camera_axes
from nddr_deploy.data.prepare.nyuv2_meta import Meta
from nddr_deploy.data.prepare.nyuv2_source import NyuSource, identity_of
from nddr_deploy.errors import InputError
from nddr_deploy.tasks import IGNORE_LABEL
from nddr_deploy.tasks.base import Array
from nddr_deploy.tasks.class_names import NYU40


def plain_folders(folder: Path, meta: Meta) -> NyuSource:
    """rgb/NUMBER.*, seg40/NUMBER.png (0 = none, 1 .. 40) and, if known, depth_mm/NUMBER.png (16-bit millimetres).

    The split is the official one where splits.mat is at hand; else the frames are in no list.

    Raises:
        InputError: there are no pictures.
    """
    pictures = _pictures(folder / "rgb")
    with_depth = (folder / "depth_mm").is_dir()
    kept, dropped = {}, Counter[str]()
    for name, path in pictures.items():
        if not (folder / "seg40" / f"{name}.png").is_file():
            dropped["without labels"] += 1
        elif with_depth and not (folder / "depth_mm" / f"{name}.png").is_file():
            dropped["without depth"] += 1
        else:
            kept[name] = path

    def read(name: str) -> Frame:
        image = read_picture(kept[name])
        labels = _labels40(folder / "seg40" / f"{name}.png", meta)
        size_hw = image.shape[0], image.shape[1]
        depth = read_depth(folder / "depth_mm" / f"{name}.png", size_hw) if with_depth else None
        return Frame(image, labels, depth=depth)

    return NyuSource(
        layout="folders rgb, depth_mm, seg40",
        identity=identity_of("rgb + seg40 + depth_mm" if with_depth else "rgb + seg40", kept, meta),
        splits={name: meta.splits.get(int(name), "") if name.isdecimal() else "" for name in kept},
        read=read,
        classes=_classes40(meta),
        dropped=dropped,
    )


def nyud_mt(folder: Path, meta: Meta, axes: Axes | None) -> NyuSource:
    """images/ID.*, segmentation/ID.png (0 = none, 1 .. 40), normals, depth, edge/ID.npy, gt_sets/{train,val}.txt.

    Its val is the official test split, and is written as test.

    Args:
        axes: the directions in which the normals' components grow; None: those that fit the first frame's depth.

    Raises:
        InputError: a list names a picture that is not there, or axes that cannot be told.
    """
    pictures = _pictures(folder / "images")
    splits: dict[str, str] = {}
    for split in ("train", "val"):
        for name in _list(folder / "gt_sets" / f"{split}.txt"):
            if name not in pictures:
                raise InputError(f"{folder / 'gt_sets' / split}.txt names {name!r}, but images has no such picture.")
            splits[name] = "test" if split == "val" else split

    parts = [part for part in ("normals", "depth", "edge") if (folder / part).is_dir()]
    told = None
    if "normals" in parts:
        told = axes or _fitting_axes(folder, parts, next(iter(splits), None))

    def read(name: str) -> Frame:
        stored = {part: _stored(folder, part, name) for part in parts}
        edge = stored.get("edge")
        return Frame(
            read_picture(pictures[name]),
            _labels40(folder / "segmentation" / f"{name}.png", meta),
            depth=stored.get("depth"),
            normals=None if told is None else in_camera_axes(stored["normals"], told),
            edge=None if edge is None else np.where(edge == IGNORE_LABEL, IGNORE_LABEL, edge > 0).astype(np.uint8),
        )

    return NyuSource(
        layout="NYUD_MT (images, gt_sets)" + ("" if told is None else f", normals' axes {', '.join(told)}"),
        identity=identity_of(f"NYUD_MT {parts} {told}", {name: pictures[name] for name in splits}, meta),
        splits=splits,
        read=read,
        classes=_classes40(meta),
        normals=told is not None,
        dropped={"in no list": len(pictures) - len(splits)} if len(pictures) > len(splits) else {},
    )


def list_files(folder: Path, meta: Meta, axes: Axes) -> NyuSource:
    """list/{training,testing}_{seg,normal_mask}.txt: lines `/IMAGE /LABEL`, both below the folder.

    Labels are PNGs of 0 .. 39 and 255; normals 8-bit colours (n + 1) * 255 / 2, white = missing.

    Args:
        axes: the directions in which red, green and blue grow.

    Raises:
        InputError: a line is wrong or leads out of the folder, or a file is missing.
    """
    files: dict[str, dict[str, Path]] = {}
    splits: dict[str, str] = {}
    dropped = Counter[str]()
    for split, prefix in (("train", "training"), ("test", "testing")):
        labels, normals = (_pairs(folder, f"{prefix}_{part}.txt") for part in ("seg", "normal_mask"))
        for image, label in labels.items():
            if image not in normals:
                dropped["without normals"] += 1
                continue
            name = image.stem
            if name in files:
                raise InputError(f"{folder / 'list'}: two pictures are called {name!r}; expected one of each name.")
            files[name] = {"image": image, "segmentation": label, "normals": normals[image]}
            splits[name] = split
        dropped["without labels"] += len(normals.keys() - labels.keys())

    def read(name: str) -> Frame:
        paths = files[name]
        image = read_picture(paths["image"])
        fine = read_map(paths["segmentation"], ("L", "P"), "8-bit labels in one channel").astype(np.uint8)
        labels = {"segmentation": fine}
        coarse = meta.coarse(fine)
        if coarse is not None:
            labels["segmentation13"] = coarse
        return Frame(image, labels, normals=normals_of_colours(read_picture(paths["normals"]), axes))

    return NyuSource(
        layout="list files (list/training_seg.txt, ...)",
        identity=identity_of(f"lists {axes}", {name: paths["image"] for name, paths in files.items()}, meta),
        splits=splits,
        read=read,
        classes=_classes40(meta),
        normals=True,
        dropped=+dropped,
    )


def normals_of_colours(colours: Array, axes: Axes) -> Array:
    """RGB uint8 (H, W, 3) of (n + 1) * 255 / 2 -> unit vectors in camera axes; white is missing."""
    white = (colours == 255).all(axis=2, keepdims=True)
    return in_camera_axes(np.where(white, 0, colours.astype(np.float32) / np.float32(127.5) - 1), axes)


def _stored(folder: Path, part: str, name: str) -> Array:
    """A part of NYUD_MT: normals (H, W, 3), depth (H, W) float32 with NaN as 0, or edge (H, W) of any numbers."""
    path = folder / part / f"{name}.npy"
    values = read_array(path, kinds="fbui" if part == "edge" else "f")
    if part == "normals":
        expected, fits = "(H, W, 3)", values.ndim == 3 and values.shape[2] == 3
    else:
        expected, fits = "(H, W)", values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 1)
    if not fits:
        raise InputError(f"{path} has the shape {values.shape}; expected {expected}.")
    if part == "normals":
        return values
    plane = values.reshape(values.shape[:2])
    return plane if part == "edge" else np.where(np.isnan(plane), 0, plane).astype(np.float32)


def _fitting_axes(folder: Path, parts: Sequence[str], name: str | None) -> Axes:
    """The axes in which the normals of a frame agree with its depth."""
    if name is None or "depth" not in parts:
        raise InputError(f"{folder} has normals but no depth, so their axes cannot be told. Say --normals-axes.")
    where = str(folder / "normals" / f"{name}.npy")
    normals, depth = _stored(folder, "normals", name), _stored(folder, "depth", name)
    if normals.shape[:2] != depth.shape:
        raise InputError(
            f"{where} has the shape {normals.shape}, its depth {depth.shape}. They must lie on each other."
        )
    return axes_that_fit(normals, depth, where)


def _labels40(path: Path, meta: Meta) -> dict[str, Array]:
    """0 = none and 1 .. 40 -> 255 and 0 .. 39, and the 13 classes where their table is at hand."""
    values = read_map(path, ("L", "P"), "8-bit labels in one channel").astype(np.uint8)
    if values.max() > len(NYU40):
        raise InputError(f"{path} holds the label {values.max()}; expected 0 to {len(NYU40)}.")
    fine = np.where(values == 0, IGNORE_LABEL, values - 1).astype(np.uint8)
    coarse = meta.coarse(fine)
    return {"segmentation": fine, **({} if coarse is None else {"segmentation13": coarse})}


def _classes40(meta: Meta) -> Mapping[str, tuple[str, ...]]:
    coarse = {"segmentation13": meta.names13} if meta.names13 else {}
    return {"segmentation": meta.names40 or NYU40, **coarse}


def _pictures(folder: Path) -> dict[str, Path]:
    found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES}
    if not found:
        raise InputError(f"{folder} holds no pictures.")
    return found


def _list(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}.") from error


def _pairs(folder: Path, name: str) -> dict[Path, Path]:
    """Image -> label, both below the folder and there."""
    pairs: dict[Path, Path] = {}
    root = folder.resolve()
    for line in _list(folder / "list" / name):
        words = line.split()
        if len(words) != 2:
            raise InputError(f"{folder / 'list' / name}: expected `/IMAGE /LABEL`; found {line!r}.")
        image, label = (root / word.lstrip("/") for word in words)
        for path in (image, label):
            if root not in path.resolve().parents:
                raise InputError(
                    f"{folder / 'list' / name}: {line!r} leads out of {folder}. Its files must lie below it."
                )
            if not path.is_file():
                raise InputError(f"{folder / 'list' / name} names {path}, which does not exist.")
        pairs[image] = label
    return pairs
