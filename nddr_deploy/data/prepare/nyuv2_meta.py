"""What the published files beside NYU Depth v2 say: its official split, and 894 classes as 40 and 13."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nddr_deploy import optional
from nddr_deploy.errors import InputError
from nddr_deploy.tasks import IGNORE_LABEL
from nddr_deploy.tasks.base import Array
from nddr_deploy.tasks.class_names import NYU40

WHERE = {
    "splits.mat": "the data set's page",
    "classMapping40.mat": "Gupta et al., CVPR 2013, with their code",
    "class13Mapping.mat": "Couprie et al., ICLR 2013, with their code",
}


@dataclass(frozen=True)
class Meta:
    """Tables of NYU Depth v2.

    Attributes:
        splits: number of a frame (from 1) -> "train" or "test".
        to40: (895,) uint8, label of 894 (0 = none) -> 0 .. 39, or 255; None: unknown.
        names40: of the 40 classes.
        to13: (256,) uint8, 0 .. 39 -> 0 .. 12, or 255; None: unknown.
        names13: of the 13 classes.
    """

    splits: dict[int, str]
    to40: Array | None
    names40: tuple[str, ...]
    to13: Array | None
    names13: tuple[str, ...]

    @property
    def identity(self) -> str:
        """Tells these classes from others."""
        tables = [b"" if table is None else table.tobytes() for table in (self.to40, self.to13)]
        return hashlib.sha256(repr((tables, self.names40, self.names13)).encode()).hexdigest()

    def coarse(self, labels: Array) -> Array | None:
        """(H, W) labels in 40 classes, 255 = none -> in 13."""
        return None if self.to13 is None else self.to13[labels]


def read_meta(folders: Sequence[Path], *, needed: Sequence[str] = ()) -> Meta:
    """The tables from the first of the folders that has each file.

    Args:
        needed: files without which there is nothing to do.

    Raises:
        InputError: a needed file is missing, or one is not what its name says.
        MissingPackageError: scipy is not installed.
    """
    found = {name: next((f / name for f in folders if (f / name).is_file()), None) for name in WHERE}
    missing = [name for name in needed if found[name] is None]
    if missing:
        wanted = " and ".join(f"{name} ({WHERE[name]})" for name in missing)
        raise InputError(f"{wanted}: not found in {folders[0]}. Put them there, or name their folder with --meta.")
    splits: dict[int, str] = {}
    if (path := found["splits.mat"]) is not None:
        tables = _read(path, ("trainNdxs", "testNdxs"))
        for split, key in (("train", "trainNdxs"), ("test", "testNdxs")):
            splits.update(dict.fromkeys(_numbers(tables[key], path), split))
        if len(splits) != np.size(tables["trainNdxs"]) + np.size(tables["testNdxs"]):
            raise InputError(f"{path}: a frame is named twice. Get the file again.")
    to40: Array | None = None
    names40: tuple[str, ...] = ()
    if (path := found["classMapping40.mat"]) is not None:
        tables = _read(path, ("mapClass", "className"))
        classes = _numbers(tables["mapClass"], path)
        names40 = _names(tables["className"], len(NYU40), path)
        if min(classes, default=0) < 1 or max(classes) > len(names40):
            raise InputError(f"{path}: expected classes from 1 to {len(names40)} for its labels. Get the file again.")
        to40 = np.array([IGNORE_LABEL, *(number - 1 for number in classes)], np.uint8)
    to13: Array | None = None
    names13: tuple[str, ...] = ()
    if (path := found["class13Mapping.mat"]) is not None:
        table = _read(path, ("classMapping13",))["classMapping13"]
        if table.dtype.names is None or table.size != 1 or not {"labels13", "classNames"} <= set(table.dtype.names):
            raise InputError(f"{path}: expected a struct with labels13 and classNames. Get the file again.")
        coarse = _numbers(table["labels13"].item(), path)
        names13 = _names(table["classNames"].item(), 13, path)
        if len(coarse) != len(NYU40):
            raise InputError(f"{path} has {len(coarse)} labels; expected one for each of {len(NYU40)} classes.")
        to13 = np.full(256, IGNORE_LABEL, np.uint8)
        to13[: len(coarse)] = [number - 1 if 1 <= number <= len(names13) else IGNORE_LABEL for number in coarse]
    return Meta(splits, to40, names40, to13, names13)


def _read(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    load = optional.load("scipy.io:loadmat", extra="data")
    try:
        values: dict[str, Any] = load(str(path))
    except Exception as error:  # scipy raises many kinds for damaged files
        raise InputError(f"{path} cannot be read as a MATLAB 5 file: {error}.") from error
    for key in keys:
        if key not in values:
            raise InputError(f"{path} has no {key!r}. Expected the file as published.")
    return values


def _numbers(values: Any, path: Path) -> list[int]:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "uif" or not np.isfinite(values).all():
        raise InputError(f"{path}: expected numbers in it. Get the file again.")
    return [int(number) for number in np.ravel(values)]


def _names(cells: Any, count: int, path: Path) -> tuple[str, ...]:
    names = [np.ravel(cell) for cell in np.ravel(cells)]
    if len(names) != count or any(name.dtype.kind != "U" or name.size != 1 for name in names):
        raise InputError(f"{path}: expected the names of {count} classes in it. Get the file again.")
    return tuple(str(name[0]) for name in names)
