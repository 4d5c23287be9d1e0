"""The files of a tar archive, a zip archive or a folder, one after the other. Nothing is unpacked."""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path

from nddr_deploy.errors import InputError, UnreadableError

# What the readers of archives raise where bytes are wrong or missing.
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, LZMAError, NotImplementedError)


@dataclass(frozen=True)
class Member:
    """A regular file.

    Attributes:
        path: where it lies in its source, as that says: never to be used as a path to write to.
        size: in bytes.
        read: gives its bytes; only until the next member is asked for.
    """

    path: str
    size: int
    read: Callable[[], bytes]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.replace("\\", "/").rsplit("/", 1)[-1]


def members(source: str | os.PathLike[str]) -> Iterator[Member]:
    """Regular files of an archive in its order, of a folder in the order of their paths.

    Links, devices and folders are left out: what they lead to is not the archive's.

    Raises:
        InputError: at once: the source does not exist, or is no folder, tar or zip file.
        UnreadableError: on the way: it is damaged, or ends in the middle.
    """
    path = Path(source)
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a folder of pictures, a tar file or a zip file.")
    if _is_tar(path):
        return _of_tar(path)
    if zipfile.is_zipfile(path):
        return _of_zip(path)
    raise InputError(f"{path} is neither a tar nor a zip file, or its beginning or end is lost. Copy it again.")


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except DAMAGE:  # a compressed file that ends at once
        return False


def _of_folder(root: Path) -> Iterator[Member]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            file = Path(folder, name)
            if file.is_file() and not file.is_symlink():
                yield Member(file.relative_to(root).as_posix(), file.stat().st_size, file.read_bytes)


def _of_tar(path: Path) -> Iterator[Member]:
    try:
        with tarfile.open(path) as archive:
            for entry in archive:
                if entry.isreg():
                    yield Member(entry.name, entry.size, partial(_from_tar, path, archive, entry))
            _check_end(archive)
    except DAMAGE as error:
        raise _damaged(path, error) from error


def _check_end(archive: tarfile.TarFile) -> None:
    """`tarfile` ends without a word where a header is cut off; an archive's own end is a block of zeros."""
    file = archive.fileobj
    if (
        file is None
        or file.seek(archive.offset) != archive.offset
        or file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE)
    ):
        raise tarfile.ReadError(f"no entry and no end at byte {archive.offset}")
    while file.read(1 << 20):  # to the check sum of a compressed file
        pass


def _from_tar(path: Path, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    try:
        file = archive.extractfile(entry)
        return b"" if file is None else file.read()
    except DAMAGE as error:
        raise _damaged(path, error) from error


def _of_zip(path: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                kind = entry.external_attr >> 28  # of Unix: 8 is a regular file, 10 a link; 0: not said
                if not entry.is_dir() and kind in (0, 8):
                    yield Member(entry.filename, entry.file_size, partial(_from_zip, path, archive, entry))
    except DAMAGE as error:
        raise _damaged(path, error) from error


def _from_zip(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(entry)
    except (*DAMAGE, RuntimeError) as error:  # RuntimeError: a password is needed
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UnreadableError:
    reason = str(error).strip().rstrip(".") or type(error).__name__
    return UnreadableError(f"{path} is damaged or ends in the middle: {reason}. Copy it again; what is done is kept.")
