"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nddr_deploy.errors import InputError


@contextmanager
def finished_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside `path`; move it to `path` only when the block succeeds.

    A reader never sees half a file, and a failed run leaves the file that was there before. The temporary name
    keeps the suffix (writers choose their format by it) and starts with a dot.

    Raises:
        InputError: the folder does not exist or cannot be written to.
    """
    final = Path(path)
    temporary = final.with_name(f".{final.stem}.{os.getpid()}.partial{final.suffix}")
    if not final.parent.is_dir():
        raise InputError(f"The folder {final.parent} does not exist. Create it, or choose another output.")
    if final.is_dir():
        raise InputError(f"{final} is a folder; expected the name of a file to write.")
    if not os.access(final.parent, os.W_OK):
        raise InputError(f"The folder {final.parent} cannot be written to. Choose another output.")
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
