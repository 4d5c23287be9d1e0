"""Which pictures of a long list are there and can be read. A stopped check goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from nddr_deploy.data.folder_files import pictures_of
from nddr_deploy.data.pictures import read_picture
from nddr_deploy.data.prepare.blocks import looked_at
from nddr_deploy.errors import InputError

JOURNAL = ".checked.txt"  # names of good pictures, one a line, while a check is under way


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
    look = partial(_is_readable, folder / "images", found)
    with open(journal, "a", encoding="utf-8") as done:
        for block in looked_at(look, left, done=len(names) - len(left), what="pictures", show_progress=show_progress):
            faults |= {name: "damaged picture" for name, readable in block if not readable}
            done.write("".join(f"{name}\n" for name, readable in block if readable))
            done.flush()
    journal.unlink()
    return faults


def _is_readable(images: Path, found: Mapping[str, str], name: str) -> bool:
    try:
        read_picture(images / found[name])
    except InputError:
        return False
    return True
