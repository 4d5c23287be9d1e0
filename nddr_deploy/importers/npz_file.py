"""Variables in a file of `numpy.savez`. Sizes are known before anything is read; pickled objects are refused."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from nddr_deploy.errors import ModelFileError

MOST_BYTES = 2 << 30  # that one ONNX file can hold
LONGEST_HEADER = 10_000  # numpy's own limit
HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class NpzVariables:
    """Named arrays of an `.npz` file, read one at a time.

    Attributes:
        shapes: of all arrays, in the file's order.
    """

    path: Path
    archive: zipfile.ZipFile
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, np.dtype[Any]]

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """The values as float32; the zip file's checksum is verified.

        Raises:
            ModelFileError: there is no such array, it is damaged, or not float32.
        """
        if name not in self.shapes:
            raise ModelFileError(f"{self.path} has no variable {name!r}.")
        if self.types[name] != np.float32:
            raise ModelFileError(f"{self.path}: {name!r} is {self.types[name]}; expected float32. Save it as float32.")
        try:
            with self.archive.open(f"{name}.npy") as file:
                return np.asarray(np.lib.format.read_array(file, allow_pickle=False), order="C")
        except Exception as error:  # a broken file makes the readers raise almost anything
            raise ModelFileError(f"{self.path} is damaged at {name!r}: {error}. Copy it again.") from error


def open_npz(path: Path) -> NpzVariables:
    """Read the names, shapes and types in an `.npz` file.

    Raises:
        ModelFileError: it is damaged, holds something other than arrays of numbers, or more than 2 GiB of them.
    """
    shapes, types = {}, {}
    try:
        archive = zipfile.ZipFile(path)
        members = archive.infolist()
        if (total := sum(member.file_size for member in members)) > MOST_BYTES:
            raise ValueError(f"it unpacks to {total} bytes, more than the {MOST_BYTES} that an ONNX file can hold")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in shapes:
                raise ValueError(f"its entry {member.filename!r} is no .npy file, or there twice")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.comment:
                raise ValueError(f"its entry {member.filename!r} is not packed as numpy does it")
            shapes[name], types[name] = _header(archive, member)
    except Exception as error:  # a broken file makes the readers raise almost anything
        raise ModelFileError(f"{path} is no .npz file of arrays, or a damaged one: {error}. Save it again.") from error
    return NpzVariables(path, archive, shapes, types)


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of one array, which must fill its entry exactly."""
    with archive.open(member) as file:
        start = BytesIO(file.read(LONGEST_HEADER))
    version = np.lib.format.read_magic(start)
    if version not in HEADER_READERS:
        raise ValueError(f"{member.filename!r} has the unknown version {version}")
    shape, _, dtype = HEADER_READERS[version](start)
    if dtype.hasobject:
        raise ValueError(f"{member.filename!r} holds pickled Python objects, which could run code")
    if min(shape, default=0) < 0 or start.tell() + dtype.itemsize * math.prod(shape) != member.file_size:
        raise ValueError(f"{member.filename!r} is announced as {shape} of {dtype}, which its size does not fit")
    return shape, dtype
