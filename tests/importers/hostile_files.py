"""PyTorch files that no one should trust, written opcode by opcode."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers.torch_file import read_foreign_file
from nddr_deploy.network.weights_file import read_torch_file

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a legacy file
PROTOCOL = 1001


def text(value: str) -> bytes:
    """The opcode of a text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    """The opcode of an integer of any size."""
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def name(module: str, attribute: str) -> bytes:
    """The opcode of a Python object by its name."""
    return f"c{module}\n{attribute}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def storage(values: int, key: str = "0", kind: str = "FloatStorage", legacy: bool = False) -> bytes:
    """The opcodes of a storage of that many values."""
    parts = text("storage") + name("torch", kind) + text(key) + text("cpu") + integer(values)
    return b"(" + parts + (b"N" if legacy else b"") + b"tQ"


def tensor(found: bytes, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """The opcodes of a view of a storage."""
    size_stride = (b"(" + b"".join(map(integer, numbers)) + b"t" for numbers in (size, stride))
    hooks = call(name("collections", "OrderedDict"))
    return call(name("torch._utils", "_rebuild_tensor_v2"), found, integer(offset), *size_stride, b"\x89", hooks)


def dictionary(key: str, value: bytes) -> bytes:
    return b"}" + text(key) + value + b"s"


def zip_file(
    path: Path, content: bytes, data: bytes = b"", records: Mapping[str, bytes] = {}, compress: bool = False
) -> Path:
    """A zip container. `content`: opcodes; `data`: of the storage "0"; `records`: others, by name."""
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr("archive/data/0", data)
        archive.writestr("archive/version", "3\n")
        for record, value in records.items():
            archive.writestr(record, value)
    return path


def legacy_file(path: Path, content: bytes, data: bytes = b"", keys: tuple[str, ...] = ()) -> Path:
    """A container of PyTorch before 1.6; `data`: what follows the pickles."""
    pickles = (integer(MAGIC), integer(PROTOCOL), b"}", content, b"(" + b"".join(map(text, keys)) + b"l")
    path.write_bytes(b"".join(b"\x80\x02" + one + b"." for one in pickles) + data)
    return path


def saved(content: object, legacy: bool = False) -> bytes:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def refused(file: Path, found: str = "") -> str:
    """Both readers refuse the file in one line that says `found`; the folder stays as it was."""
    before = sorted(file.parent.iterdir())
    messages = []
    for read in (read_torch_file, read_foreign_file):
        with pytest.raises(ModelFileError) as caught:
            read(file)
        messages.append(str(caught.value))
        assert file.name in messages[-1]
        assert "\n" not in messages[-1]
    assert found in messages[-1]
    assert sorted(file.parent.iterdir()) == before
    return messages[-1]


Write = Callable[..., Path]
CONTAINERS = pytest.mark.parametrize("write", [zip_file, legacy_file])
CONFIG = name("yacs.config", "CfgNode") + b")\x81"  # makes a file one that only the restricted pickle reads
FOUR = struct.pack("<4f", 1, 2, 3, 4)  # the values of a storage
