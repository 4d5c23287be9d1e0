"""What `torch.load` would unpack, run or allocate without bound, found before and after it loads a file."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from nddr_deploy.errors import ModelFileError

ZIP = b"PK\x03\x04"  # how torch.load tells the two containers apart


def check_container(path: Path) -> None:
    """Refuse archives that unpack to more than themselves, and kinds of files that PyTorch would not just read.

    Raises:
        ModelFileError: empty, compressed, overlapping records, TorchScript, or a tar archive.
    """
    with path.open("rb") as file:
        start = file.read(len(ZIP))
    if not start:
        raise ModelFileError(f"{path} is empty. Copy it again.")
    if start == ZIP:
        _check_records(path)
    elif tarfile.is_tarfile(path):
        raise ModelFileError(
            f"{path} is a tar archive, as PyTorch before 0.1.10 wrote them; only newer files are read. "
            "Load it with PyTorch and save its state dict anew."
        )


def _check_records(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise ModelFileError(f"{path} is a damaged or truncated archive ({error}). Copy it again.") from error
    if any(record.filename.endswith("/constants.pkl") or "/code/" in record.filename for record in records):
        raise ModelFileError(
            f"{path} is a TorchScript archive, a program rather than weights: refused. Save the state dict alone."
        )
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED:
            raise ModelFileError(
                f"{path}: its record {record.filename!r} is compressed, which PyTorch never does: refused, for it may "
                "unpack to any size. Save the checkpoint again with torch.save."
            )
    if sum(record.file_size for record in records) > path.stat().st_size:
        raise ModelFileError(f"{path}: its records claim more bytes than the file has. Copy it again.")


def check_tensors(values: Any, path: Path) -> None:
    """Refuse tensors that are more than the bytes in the file: views that repeat values, and kinds without values.

    Raises:
        ModelFileError: names the first one.
    """
    for name, tensor in _tensors(values):
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not dense:
            raise ModelFileError(f"{path}: {name} is not a plain tensor on the CPU. Save plain weights.")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ModelFileError(
                f"{path}: {name} has the shape {tuple(tensor.shape)}, but the file holds fewer values for it. "
                "Save it as a tensor of its own (contiguous)."
            )


def _tensors(values: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in nested mappings, lists and tuples, each container looked into once."""
    seen: set[int] = set()
    left: list[tuple[str, Any]] = [("the content", values)]
    while left:
        name, value = left.pop()
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            left.extend((repr(key)[:100], item) for key, item in items)
