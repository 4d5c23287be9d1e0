"""IMDB-WIKI: faces of known persons with dates, brought into the layout of `folder`.

A row of `imdb.mat` or `wiki.mat` becomes a face by these rules, asked in this order; the first that fails is the reason
why it is dropped:

    a face was found (face_score is a number), and surely (at least 1)
    there is no second face (second_face_score is not a number, or at most 0)
    the gender is known (1 = male, 0 = female)
    the birth date and the year of the photo are known
    the age is 0 .. 100: year of the photo - year of birth, less 1 where the birthday is in July or later, for nobody
        knows on which day of its year a photo was taken
    the path of the picture is a plain one, and no earlier row's

A birth date is a day number of MATLAB: `max(dob - 366, 1)` counts days from 1 January of the year 1.

A person's pictures are all in one split. The person is the name (`celeb_names[celeb_id]` where the file has them). A
row without a name counts as the person of its page, with whose number the name of the picture begins.

Source:
    Rothe, Timofte and Van Gool, DEX: Deep EXpectation of apparent age from a single image, ICCV Workshops 2015.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from nddr_deploy import optional
from nddr_deploy.data.folder_files import GENDERS
from nddr_deploy.data.prepare.checked_pictures import check_pictures
from nddr_deploy.data.prepare.faces import Face, FaceSummary, write_faces
from nddr_deploy.errors import InputError
from nddr_deploy.tasks.base import Array

TEST = 2000 / 12325  # the paper evaluates on 2,000 of 12,325 persons
SHARES = {"train": 1 - 0.05 - TEST, "val": 0.05, "test": TEST}
COLUMNS = ("dob", "photo_taken", "full_path", "gender", "name", "face_score", "second_face_score")
PATH = re.compile(r"([0-9A-Za-z_-][0-9A-Za-z_.-]*/)*(?P<person>[0-9A-Za-z-]+)[0-9A-Za-z_.-]*\.(jpg|jpeg|png)")


def prepare_imdb_wiki(
    mat: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    show_progress: bool = False,
) -> FaceSummary:
    """Write IMDB or WIKI as a folder that the data set `folder` reads.

    With pictures, each is checked by decoding it, and OUTPUT/images becomes a symbolic link to their folder: nothing is
    copied. Missing and damaged ones are counted and are in no list. Where one run was stopped, the next goes on.
    Without pictures the lists hold every face, and the folder can be used once OUTPUT/images is there.

    Args:
        mat: imdb.mat or wiki.mat as published, MATLAB 5.
        output: the folder to write; made if it is missing.
        images: the folder that `full_path` in the file begins in, such as wiki_crop; None: OUTPUT/images where that
            exists, else no pictures.
        show_progress: draw a progress bar on stderr.

    Returns:
        What was kept and dropped, and why.

    Raises:
        InputError: a file or folder is missing or is not what was expected, or the output cannot be written to.
        MissingPackageError: scipy is not installed.
    """
    summary = FaceSummary(str(mat))
    faces: dict[str, Face] = {}
    for row in _rows(Path(mat)):
        summary.read += 1
        face = _face(row)
        if isinstance(face, str):
            summary.dropped[face] += 1
        elif face.name in faces:
            summary.dropped["the same picture as an earlier row"] += 1
        else:
            faces[face.name] = face
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made: {error.strerror}. Choose another output.") from error
    unusable: dict[str, str] = {}
    if images is not None:
        _link(folder / "images", Path(images))
    if (folder / "images").is_dir():
        summary.pictures = "checked"
        unusable = check_pictures(folder, sorted(faces), show_progress=show_progress)
        summary.without_picture.update(unusable.values())
    write_faces(folder, list(faces.values()), SHARES, summary, unusable=unusable, persons=True)
    return summary


@dataclass(frozen=True)
class Row:
    """One row of the file: numbers as they are, NaN where there is none; texts "" where there is none."""

    dob: float
    photo_taken: float
    full_path: str
    gender: float
    person: str
    face_score: float
    second_face_score: float


def age_of(dob: float, photo_taken: float) -> int:
    """Years from a day number of MATLAB to the year of a photo; see the rules of this module.

    >>> age_of(723671, 2009)  # 5 May 1981
    28
    """
    born = date.fromordinal(max(int(dob) - 366, 1))
    return int(photo_taken) - born.year - (born.month >= 7)


def _face(row: Row) -> Face | str:
    """The face of a row, or the reason why there is none."""
    if not math.isfinite(row.face_score):
        return "no face was found"
    if row.face_score < 1:
        return "a face score below 1"
    if row.second_face_score > 0:
        return "a second face"
    if row.gender not in (0, 1):
        return "the gender is not known"
    if not (math.isfinite(row.dob) and row.dob - 366 <= date.max.toordinal() and 1 <= row.photo_taken <= 9999):
        return "the birth date or the year of the photo is not known"
    age = age_of(row.dob, row.photo_taken)
    if not 0 <= age <= 100:
        return "an age below 0 or over 100"
    path = PATH.fullmatch(row.full_path)
    if path is None:
        return "the path of the picture is not a plain one"
    name = PurePosixPath(row.full_path).with_suffix("").as_posix()
    return Face(name, age, GENDERS[0 if row.gender == 1 else 1], row.person or path["person"])


def _rows(mat: Path) -> Iterator[Row]:
    table = _table(mat)
    dob, taken, gender, score, second = (
        _numbers(mat, table, column) for column in ("dob", "photo_taken", "gender", "face_score", "second_face_score")
    )
    paths, persons = _texts(mat, table, "full_path"), _texts(mat, table, "name")
    if "celeb_names" in table and "celeb_id" in table:
        celebrities = _texts(mat, table, "celeb_names")
        for index, number in enumerate(_numbers(mat, table, "celeb_id").tolist()):
            if number in range(1, len(celebrities) + 1):  # MATLAB counts from 1
                persons[index] = celebrities[int(number) - 1] or persons[index]
    columns = (dob.tolist(), taken.tolist(), paths, gender.tolist(), persons, score.tolist(), second.tolist())
    if len({len(column) for column in columns}) > 1:
        found = ", ".join(f"{len(column)}" for column in columns)
        raise InputError(f"{mat} has columns of different lengths ({found}). Download it again.")
    return map(Row, *columns)


def _table(mat: Path) -> Mapping[str, Array]:
    """The columns of the one structure in the file."""
    if not mat.is_file():
        raise InputError(f"{mat} does not exist; expected imdb.mat or wiki.mat.")
    load = optional.load("scipy.io:loadmat", extra="data")
    try:
        content = load(mat, variable_names=["imdb", "wiki"])
    except Exception as error:  # the reader meets damaged bytes in many ways
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise InputError(f"{mat} cannot be read as a MATLAB 5 file: {reason}. Download it again.") from error
    found = [content[name] for name in ("imdb", "wiki") if name in content]
    if len(found) != 1 or found[0].dtype.names is None or found[0].size != 1:
        raise InputError(f"{mat} holds no structure 'imdb' or 'wiki'; expected the file that IMDB-WIKI publishes.")
    row: Any = found[0].reshape(-1)[0]
    missing = [column for column in COLUMNS if column not in found[0].dtype.names]
    if missing:
        raise InputError(f"{mat} has no column {missing[0]!r}; expected {', '.join(COLUMNS)}.")
    return {column: np.asarray(row[column]).reshape(-1) for column in found[0].dtype.names}


def _numbers(mat: Path, table: Mapping[str, Array], column: str) -> Array:
    if not np.issubdtype(table[column].dtype, np.number):
        raise InputError(f"{mat}: {column} holds {table[column].dtype}; expected numbers.")
    return table[column].astype(np.float64)


def _texts(mat: Path, table: Mapping[str, Array], column: str) -> list[str]:
    """One text for each cell, on one line; "" for an empty one."""
    texts = []
    for cell in table[column].tolist():
        values = np.asarray(cell).reshape(-1)
        if values.size and values.dtype.kind != "U":
            raise InputError(f"{mat}: {column} holds {values.dtype}; expected texts.")
        texts.append(" ".join(str(values[0]).split()) if values.size else "")
    return texts


def _link(link: Path, images: Path) -> None:
    """Let `link` lead to the pictures."""
    if not images.is_dir():
        raise InputError(f"The folder of pictures {images} does not exist.")
    if not (link.exists() or link.is_symlink()):
        link.symlink_to(images.resolve(), target_is_directory=True)
    elif link.resolve() != images.resolve():
        raise InputError(f"{link} is there and is not {images}. Remove it, or choose another output.")
