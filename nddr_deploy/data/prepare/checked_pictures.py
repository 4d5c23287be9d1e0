"""Which pictures of a long list are there and can be read. A stopped check goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nddr_deploy.data.folder_files import pictures_of
from nddr_deploy.data.pictures import read_picture
from nddr_deploy.errors import InputError
from nddr_deploy.progress import progress_bar

JOURNAL = ".checked.txt"  # names of good pictures, one a line, while a check is under way
BLOCK = 256


def check_pictures(folder: Path, names: Sequence[str], *, show_progress: bool = False) -> dict[str, str]:
    """Decode each picture of FOLDER/images.

    Returns:
        The names that cannot be used, and why not.

    Raises:
        InputError: the folder holds no pictures.
    """
    found = pictures_of(folder)
    journal = folder / JOURNAL
    good = set(journal.read_text(encoding="utf-8").split("\n")[:-1]) if journal.is_file() else set()
    faults = {name: "missing picture" for name in names if name not in found}
    left = [name for name in names if name not in faults and name not in good]
    with (
        progress_bar("pictures", len(names), shown=show_progress) as advance,
        ThreadPoolExecutor(os.cpu_count()) as threads,
        open(journal, "a", encoding="utf-8") as done,
    ):
        advance(len(names) - len(left))
        for start in range(0, len(left), BLOCK):
            block = left[start : start + BLOCK]
            readable = list(threads.map(_is_readable, (folder / "images" / found[name] for name in block)))
            faults |= {name: "damaged picture" for name, fine in zip(block, readable, strict=True) if not fine}
            done.write(_lines(name for name, fine in zip(block, readable, strict=True) if fine))
            done.flush()
            advance(len(block))
    journal.unlink()
    return faults


def _lines(names: Iterable[str]) -> str:
    return "".join(f"{name}\n" for name in names)


def _is_readable(file: Path) -> bool:
    try:
        read_picture(file)
    except InputError:
        return False
    return True
