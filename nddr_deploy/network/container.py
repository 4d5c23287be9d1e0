"""What `torch.load` would unpack, run or allocate without bound, found before and after it loads a file."""

from __future__ import annotations

import struct
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from nddr_deploy.errors import ModelFileError

ZIP = b"PK\x03\x04"  # how torch.load tells the two containers apart
END = struct.Struct("<4s4H2LH")  # a zip's last bytes: magic, disks, records, size and place of their list, comment
END_64 = struct.Struct("<4s36x2Q8xQ4x")  # before it in large ones: magic, size and place of the list, own place
MANY = 0xFFFFFFFF
DEEPEST = 100


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
    elif _is_tar(path):
        raise ModelFileError(
            f"{path} is a tar archive, as PyTorch before 0.1.10 wrote them; only newer files are read. "
            "Load it with PyTorch and save its state dict anew."
        )


def _is_tar(path: Path) -> bool:
    """As `torch.load` tells: without looking into compressed files."""
    try:
        with tarfile.open(path, "r:"):
            return True
    except tarfile.TarError:
        return False


def _check_records(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            records, directory = archive.infolist(), archive.start_dir
            _check_end(path, directory)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error) as error:
        raise ModelFileError(f"{path} is a damaged or truncated archive ({error}). Copy it again.") from error
    names = [record.filename for record in records]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise ModelFileError(
            f"{path} is a TorchScript archive, a program rather than weights: refused. Save the state dict alone."
        )
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
            raise ModelFileError(
                f"{path}: its record {record.filename[:100]!r} is compressed, which PyTorch never does: refused, for "
                "it may unpack to any size. Save the checkpoint again with torch.save."
            )
    if len({name.lower() for name in names}) < len(names):  # PyTorch does not tell cases apart
        raise ModelFileError(f"{path}: two of its records have one name, which PyTorch never writes. Copy it again.")
    if sum(record.file_size for record in records) > path.stat().st_size:
        raise ModelFileError(f"{path}: its records claim more bytes than the file has. Copy it again.")
    if not any(name.count("/") == 1 and name.endswith("/data.pkl") for name in names):
        raise ModelFileError(f"{path} is a zip archive that PyTorch did not write. Give the checkpoint inside it.")


def _check_end(path: Path, directory: int) -> None:
    """The list of records is where both Python and PyTorch look, so that both see the same one."""
    end = path.stat().st_size - END.size
    with path.open("rb") as file:
        file.seek(max(0, end - END_64.size))
        tail = file.read()
    magic, *_, size, offset, comment = END.unpack(tail[-END.size :])
    large = tail[-END.size - 20 : -END.size].startswith(b"PK\x06\x07")
    if large:
        end -= END_64.size
        magic_64, size_64, offset_64, place = END_64.unpack(tail[: END_64.size])
        agree = magic_64 == b"PK\x06\x06" and place == end and size in (size_64, MANY) and offset in (offset_64, MANY)
        size, offset = size_64, offset_64
    if magic != b"PK\x05\x06" or comment or (large and not agree) or not offset == directory == end - size:
        raise ValueError("its list of records is not at its end")


def check_tensors(values: Any, path: Path) -> None:
    """Refuse tensors that are more than the bytes in the file: views that repeat values, and kinds without values.

    Raises:
        ModelFileError: names the first one.
    """
    for name, tensor in _tensors(values, path):
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not dense:
            raise ModelFileError(f"{path}: {name} is not a plain tensor on the CPU. Save plain weights.")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ModelFileError(
                f"{path}: {name} has the shape {tuple(tensor.shape)}, but the file holds fewer values for it. "
                "Save it as a tensor of its own (contiguous)."
            )


def _tensors(values: Any, path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in nested mappings, lists and tuples, each container looked into once."""
    seen: set[int] = set()
    left: list[tuple[str, Any, int]] = [("the content", values, 0)]
    while left:
        name, value, depth = left.pop()
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            if depth > DEEPEST:
                raise ModelFileError(f"{path}: its values are nested deeper than {DEEPEST} times. Save plain weights.")
            seen.add(id(value))
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            left.extend((_short(key), item, depth + 1) for key, item in items)


def _short(key: Any) -> str:
    return repr(key)[:100] if isinstance(key, (str, int)) else f"a {type(key).__name__}"
