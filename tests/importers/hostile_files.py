"""PyTorch files that no training wrote: made by hand, byte by byte where it must be."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the legacy container


class Call:
    """Pickles as the call of a function; a storage among the arguments pickles as PyTorch writes it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.parts


class Storage:
    """What a file says of a storage: how many values it has."""

    def __init__(self, values: int, kind: Any = torch.FloatStorage) -> None:
        self.values, self.kind = values, kind


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return ("storage", value.kind, "0", "cpu", value.values, None) if isinstance(value, Storage) else None


def pickled(content: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=2).dump(content)
    return file.getvalue()


def tensor(storage: Storage, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Call:
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})


def write_zip(
    path: Path, data_pkl: bytes, records: Mapping[str, bytes] = {}, compression: int = zipfile.ZIP_STORED
) -> Path:
    """The newer container around a pickle of any content."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in {"data.pkl": data_pkl, "byteorder": b"little", "version": b"3\n", **records}.items():
            archive.writestr(f"archive/{name}", data)
    return path


def write_legacy(path: Path, content_pkl: bytes, keys: list[str] | None = None, values: bytes = b"") -> Path:
    """The container of PyTorch before 1.6 around a pickle of any content."""
    sizes = {"short": 2, "int": 4, "long": 4}
    head = (MAGIC, PROTOCOL, {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": sizes})
    parts = [*(pickle.dumps(part, protocol=2) for part in head), content_pkl, pickle.dumps(keys or [], protocol=2)]
    path.write_bytes(b"".join(parts) + values)
    return path
