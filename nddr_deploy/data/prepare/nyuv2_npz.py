"""A public small form: one .npz a frame with picture, 13 classes, depth and normals."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from nddr_deploy.data.prepare.frame import Frame
from nddr_deploy.data.prepare.normals_axes import Axes, in_camera_axes
from nddr_deploy.data.prepare.nyuv2_meta import Meta
from nddr_deploy.data.prepare.nyuv2_source import NyuSource, identity_of
from nddr_deploy.errors import InputError
from nddr_deploy.tasks import IGNORE_LABEL

NAME = re.compile(r"(?P<split>train|val|test)_[0-9]+_id(?P<number>[0-9]{4})\.npz")
ARRAYS = {"image_u8": ("u", 3), "depth_m": ("f", 2), "label13_minus1void": ("i", 2), "normal": ("f", 3)}  # kind, axes
STORED_AXES: Axes = ("right", "away", "up")


def npz_folder(folder: Path, meta: Meta) -> NyuSource:
    """Frames `SPLIT_N_idNNNN.npz`: image_u8, depth_m, label13_minus1void (-1 = none), normal.

    The three components of a stored normal grow to the right, away from the camera, and up.

    Raises:
        InputError: two files of one frame.
    """
    files: dict[str, tuple[Path, str]] = {}
    for path in sorted(folder.glob("*.npz")):
        parts = NAME.fullmatch(path.name)
        if parts is None:
            continue
        if parts["number"] in files:
            raise InputError(f"{files[parts['number']][0]} and {path} are the same frame. Remove one of them.")
        files[parts["number"]] = path, parts["split"]
    others = sum(NAME.fullmatch(path.name) is None for path in folder.glob("*.npz"))
    names13 = meta.names13 or tuple(f"class {number}" for number in range(1, 14))
    return NyuSource(
        layout="one .npz a frame, 13 classes",
        identity=identity_of("npz", {name: path for name, (path, _) in files.items()}, meta),
        splits={name: split for name, (_, split) in files.items()},
        read=lambda name: _frame(files[name][0]),
        classes={"segmentation": names13},
        normals=True,
        dropped={"not named SPLIT_N_idNNNN.npz": others} if others else {},
    )


def _frame(path: Path) -> Frame:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in ARRAYS}
    except Exception as error:  # zip files, deflate and numpy headers are each damaged in their own way
        raise InputError(f"{path} cannot be read as a numpy archive: {error}.") from error
    for name, (kind, axes) in ARRAYS.items():
        if name not in arrays or arrays[name].dtype.kind != kind or arrays[name].ndim != axes:
            found = f"{arrays[name].dtype} {arrays[name].shape}" if name in arrays else "nothing"
            raise InputError(f"{path}: {name} is {found}; expected an array of kind {kind!r} with {axes} axes.")
    labels = arrays["label13_minus1void"]
    if labels.max(initial=0) >= IGNORE_LABEL:
        raise InputError(f"{path} holds the label {labels.max()}; expected -1 to 12.")
    if arrays["normal"].shape[2] != 3:
        raise InputError(f"{path}: normal has the shape {arrays['normal'].shape}; expected (H, W, 3).")
    return Frame(
        image=arrays["image_u8"],
        labels={"segmentation": np.where(labels < 0, IGNORE_LABEL, labels).astype(np.uint8)},
        depth=np.nan_to_num(arrays["depth_m"].astype(np.float32), nan=0.0),
        normals=in_camera_axes(arrays["normal"], STORED_AXES),
    )
