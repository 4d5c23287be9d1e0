"""TensorFlow V2 checkpoints read without TensorFlow: `PREFIX.index` and `PREFIX.data-00000-of-00001`, or an `.npz`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers.npz_file import MOST_BYTES, open_npz
from nddr_deploy.importers.tf_table import Message, masked_crc32c, table_entries

PART = re.compile(r"(?P<prefix>.+)\.(?P<part>index|meta|data-\d{5}-of-\d{5})")
LATEST = "checkpoint"  # the text file in a folder that names the newest prefix
MOST_INDEX_BYTES, MOST_LATEST_BYTES = 4 << 20, 1 << 16
MOST_SIDES = 32
SLICE = b"\0"  # begins the key of a slice of a partitioned variable, which is listed under its own name too
FLOAT32 = 1
OTHER_TYPES = {2: "float64", 3: "int32", 7: "string", 9: "int64", 10: "bool", 14: "bfloat16", 19: "float16"}
VERSION = 1  # of the index, that this reader knows


class Variables(Protocol):
    """Named arrays in a file, read one at a time."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of all variables, in the file's order. Not all of them can be read: those that are not float32 are listed."""

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """The values as float32, after their checksum was verified.

        Raises:
            ModelFileError: there is no such variable, it is damaged, or of a kind that is not read.
        """


def find_tf_checkpoint(path: str | os.PathLike[str]) -> Path | None:
    """The `.index` or `.npz` file that `path` means.

    Args:
        path: a folder, a prefix as in `model.ckpt-20000`, a file of a checkpoint, or an `.npz` of its variables. In a
            folder the text file `checkpoint` decides, of which only the last part of the name counts: it was often
            written on another machine.

    Returns:
        None: nothing there looks like a TensorFlow checkpoint.

    Raises:
        ModelFileError: a part is missing, or a folder holds several checkpoints and does not say which counts.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _in_folder(path)
        if path.suffix == ".npz":
            if not path.is_file():
                raise ModelFileError(f"{path} is no file. Give the path of an .npz file of variables.")
            return path
        if part := PART.fullmatch(path.name):
            return _whole(path.parent / part["prefix"])
        if not path.exists() and path.name in _checkpoints(path.parent):
            return _whole(path)
    except OSError as error:
        raise ModelFileError(f"{error.filename} cannot be read: {error.strerror}. Check its permissions.") from error
    return None


def open_tf_variables(path: Path) -> Variables:
    """The variables of a file that `find_tf_checkpoint` returned. Only names, shapes and places are read.

    Raises:
        ModelFileError: the file is damaged, of another kind, or its data files are not all there.
    """
    return open_npz(path) if path.suffix == ".npz" else _open_index(path)


def _in_folder(folder: Path) -> Path | None:
    latest = folder / LATEST
    if latest.is_file():
        with open(latest, "rb") as file:
            text = file.read(MOST_LATEST_BYTES).decode(errors="replace")
        if named := re.search(r'^\s*model_checkpoint_path:\s*"(.*)"\s*$', text, re.MULTILINE):
            return _whole(folder / re.split(r"[/\\]", named[1])[-1])
    checkpoints = _checkpoints(folder)
    prefixes = [prefix for prefix, parts in checkpoints.items() if "index" in parts]
    prefixes = prefixes or [prefix for prefix, parts in checkpoints.items() if "data" in parts]
    if len(prefixes) > 1:
        raise ModelFileError(
            f"{folder} holds several checkpoints ({', '.join(prefixes)}) and no text file {LATEST!r} that names the "
            f"newest. Give one of them, as in {folder / prefixes[-1]}."
        )
    return _whole(folder / prefixes[0]) if prefixes else None


def _checkpoints(folder: Path) -> dict[str, set[str]]:
    """Which of index, meta and data are in a folder, by prefix."""
    found: dict[str, set[str]] = {}
    for name in sorted(file.name for file in folder.iterdir()) if folder.is_dir() else ():
        if part := PART.fullmatch(name):
            found.setdefault(part["prefix"], set()).add(part["part"].partition("-")[0])
    return found


def _whole(prefix: Path) -> Path:
    """The index of a checkpoint, which must be there together with data."""
    index = prefix.with_name(f"{prefix.name}.index")
    parts = _checkpoints(prefix.parent).get(prefix.name, set())
    for part, path in (("index", index), ("data", _shard(index, 0, 1))):
        if part not in parts:
            raise _missing(path)
    return index


def _shard(index: Path, number: int, count: int) -> Path:
    return index.with_name(f"{index.name.removesuffix('.index')}.data-{number:05d}-of-{count:05d}")


def _missing(path: Path) -> ModelFileError:
    return ModelFileError(
        f"{path} is missing. A checkpoint's .index and .data files belong into one folder: copy both."
    )


@dataclass(frozen=True)
class _Entry:
    """Where a variable lies, and what it is."""

    type: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    partitioned: bool


@dataclass(frozen=True)
class _TableVariables:
    index: Path
    shards: int
    entries: Mapping[str, _Entry]

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.entries.items()}

    def read(self, name: str) -> np.ndarray[Any, Any]:
        if name not in self.entries:
            raise ModelFileError(f"{self.index} has no variable {name!r}.")
        entry = self.entries[name]
        if entry.partitioned:
            raise ModelFileError(
                f"{self.index}: {name!r} is a partitioned variable, stored in slices, which are not read. "
                "Save it as one variable."
            )
        if entry.type != FLOAT32:
            kind = OTHER_TYPES.get(entry.type, f"type {entry.type}")
            raise ModelFileError(f"{self.index}: {name!r} is {kind}; expected float32. Save it as float32.")
        path = _shard(self.index, entry.shard, self.shards)
        try:
            with open(path, "rb") as file:
                length = os.fstat(file.fileno()).st_size
                if entry.offset + entry.size > length:  # before anything of that size is asked for
                    raise ModelFileError(
                        f"{path} has {length} bytes, but {name!r} is {entry.size} bytes from {entry.offset} on: "
                        "it is truncated, or belongs to another index. Copy both files again."
                    )
                file.seek(entry.offset)
                values = np.fromfile(file, "<f4", entry.size // 4)
        except OSError as error:
            raise ModelFileError(f"{path} cannot be read: {error.strerror}.") from error
        unwritable = values.view()
        unwritable.flags.writeable = False
        if masked_crc32c(unwritable) != entry.crc:
            raise ModelFileError(
                f"{path} is damaged, or belongs to another index: the checksum of {name!r} is wrong. "
                "Copy both files again."
            )
        return values.reshape(entry.shape)


def _open_index(path: Path) -> Variables:
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_INDEX_BYTES + 1)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}.") from error
    entries: dict[str, _Entry] = {}
    shards = None
    try:
        if len(data) > MOST_INDEX_BYTES:
            raise ValueError(f"it has more than {MOST_INDEX_BYTES} bytes")
        for key, value in table_entries(data):
            if shards is None:
                shards = _shard_count(key, value)
            elif not key.startswith(SLICE):
                entries[key.decode()] = _entry(key, value, shards)
    except ValueError as error:
        raise ModelFileError(f"{path} is no TensorFlow index, or a damaged one: {error}. Copy it again.") from error
    if shards is None:
        raise ModelFileError(f"{path} is empty: it has no variables. Give a checkpoint of a trained network.")
    for number in range(shards):
        if not (shard := _shard(path, number, shards)).is_file():
            raise _missing(shard)
    return _TableVariables(path, shards, entries)


def _shard_count(key: bytes, value: bytes) -> int:
    """The number of data files, from the entry without a name: 1 their number, 2 byte order, 3 version."""
    if key:
        raise ValueError("it has no header")
    header = Message(value)
    if header.number(2) != 0:
        raise ValueError("its values are big-endian")
    version = max((version.number(2) for version in header.parts(3)), default=0)
    if version > VERSION:
        raise ValueError(f"it asks for a reader of version {version}, and this is one of version {VERSION}")
    if header.number(1) == 0:
        raise ValueError("it announces no data file")
    return header.number(1)


def _entry(key: bytes, value: bytes, shards: int) -> _Entry:
    """Fields: 1 type, 2 shape (2 dimension: 1 size), 3 data file, 4 offset, 5 bytes, 6 checksum, 7 slices."""
    try:
        message = Message(value)
        shape = tuple(side.number(1) for part in message.parts(2) for side in part.parts(2))
        entry = _Entry(
            type=message.number(1),
            shape=shape,
            shard=message.number(3),
            offset=message.number(4),
            size=message.number(5),
            crc=message.number(6),
            partitioned=bool(message.parts(7)),
        )
        if len(shape) > MOST_SIDES:
            raise ValueError(f"its shape has {len(shape)} dimensions")
        if entry.shard >= shards:
            raise ValueError(f"it is in data file {entry.shard} of {shards}")
        if entry.type == FLOAT32 and not entry.partitioned:
            if 4 * math.prod(max(side, 1) for side in shape) > MOST_BYTES:
                raise ValueError(f"its shape {shape} holds more than the {MOST_BYTES} bytes that an ONNX file can hold")
            if entry.size != 4 * math.prod(shape):
                raise ValueError(f"its shape {shape} of float32 is not the {entry.size} bytes that are announced")
        return entry
    except ValueError as error:
        raise ValueError(f"{key.decode(errors='replace')!r}: {error}") from error
