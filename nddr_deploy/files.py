"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from nddr_deploy.errors import InputError, OutputError

# What only writing meets: no room, no quota, a file too large, a disk that fails or may only be read.
WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


@contextmanager
def finished_file(path: str | os.PathLike[str], *, flushed: bool = True) -> Iterator[Path]:
    """Yield a temporary name beside `path`; move it to `path` only when the block succeeds.

    A reader never sees half a file, and a failed run leaves the file that was there before. The temporary name
    keeps the suffix (writers choose their format by it) and starts with a dot.

    Args:
        path: the file to write.
        flushed: wait until the disk has it. Without, thousands of small files are written many times faster, and one
            that was written just before the power failed may be cut off: only for what is compared before it is used.

    Raises:
        InputError: the folder does not exist or cannot be written to.
        OutputError: the disk is full, or fails.
    """
    with finished_files(path, flushed=flushed) as (temporary,):
        yield temporary


@contextmanager
def finished_files(*paths: str | os.PathLike[str], flushed: bool = True) -> Iterator[list[Path]]:
    """`finished_file` for files that belong together: all take their places, or none does.

    Raises:
        InputError, OutputError: as `finished_file`.
    """
    finals = [check_place(path) for path in paths]
    temporaries = [final.with_name(f".{final.stem}.{os.getpid()}.partial{final.suffix}") for final in finals]
    try:
        yield temporaries
        for temporary in temporaries if flushed else ():
            with open(temporary, "rb+") as written:
                os.fsync(written.fileno())
        _put_in_place(temporaries, finals)
    except OSError as error:
        if error.errno not in WRITING:
            raise
        names = " and ".join(map(str, finals))
        raise OutputError(
            f"{names} could not be written: {error.strerror}. Make room, or choose another disk."
        ) from error
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def check_place(path: str | os.PathLike[str]) -> Path:
    """The path, where a file of that name can be written.

    Raises:
        InputError: its folder does not exist or cannot be written to, or it is a folder itself.
    """
    final = Path(path)
    if not final.parent.is_dir():
        raise InputError(f"The folder {final.parent} does not exist. Create it, or choose another output.")
    if final.is_dir():
        raise InputError(f"{final} is a folder; expected the name of a file to write.")
    if not os.access(final.parent, os.W_OK):
        raise InputError(f"The folder {final.parent} cannot be written to. Choose another output.")
    return final


def _put_in_place(temporaries: Sequence[Path], finals: Sequence[Path]) -> None:
    """One after the other; where one fails, those before it become what they were."""
    before = [final.with_name(f".{final.name}.{os.getpid()}.before") for final in finals]
    placed: list[tuple[Path, Path]] = []
    try:
        for temporary, final, kept in zip(temporaries, finals, before, strict=True):
            if len(finals) > 1 and final.exists():
                kept.hardlink_to(final)
            temporary.replace(final)
            placed.append((final, kept))
    except OSError:
        for final, kept in placed:
            with suppress(OSError):
                kept.replace(final) if kept.exists() else final.unlink()
        raise
    finally:
        for kept in before:
            kept.unlink(missing_ok=True)


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
