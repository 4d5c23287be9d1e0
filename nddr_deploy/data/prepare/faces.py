"""What data sets of faces share: labels.csv, the lists of the splits, and a summary of what was kept and dropped."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nddr_deploy.data.prepare.shares import digits_of, split_of
from nddr_deploy.errors import InputError
from nddr_deploy.files import finished_files

MOST_YEARS = 99  # the age task has the classes 0 .. 99


@dataclass(frozen=True)
class Face:
    """One labelled face.

    Attributes:
        name: of the picture below `images`, without its suffix.
        age: whole years.
        gender: "male" or "female".
        person: what decides the split: faces of one person stay together.
    """

    name: str
    age: int
    gender: str
    person: str


@dataclass
class FaceSummary:
    """What became of a data set of faces; `summary.json` holds the same.

    Attributes:
        source: file or folder that was read.
        pictures: "checked", or "not there": then the lists hold all faces, and only pictures are wanting.
        read: rows or pictures in it.
        dropped: reason -> how many are not in labels.csv.
        labelled: how many are.
        over_99_years: how many of these are in no list, because the age task has the classes 0 .. 99.
        without_picture: how many of these are in no list, because their picture is missing or cannot be read.
        splits: split -> names in its list.
        persons: split -> persons in its list.
    """

    source: str
    pictures: str = "not there"
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    labelled: int = 0
    over_99_years: int = 0
    without_picture: Counter[str] = field(default_factory=Counter)
    splits: dict[str, int] = field(default_factory=dict)
    persons: dict[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """For people, one fact a line."""
        lines = [f"{self.read:>8,} in {self.source}"]
        lines += [f"{-count:>8,} {reason}" for reason, count in self.dropped.most_common()]
        lines += [f"{self.labelled:>8,} in labels.csv"]
        if self.over_99_years:
            lines += [f"{-self.over_99_years:>8,} over {MOST_YEARS} years: in no list, the age task ends there"]
        lines += [f"{-count:>8,} {reason}: in no list" for reason, count in self.without_picture.most_common()]
        lines += [
            f"{count:>8,} in {split}.txt" + (f" ({self.persons[split]:,} persons)" if self.persons else "")
            for split, count in self.splits.items()
        ]
        if self.pictures != "checked":
            lines += ["The pictures are not there: give their folder as --images, or put them into `images`."]
        return "\n".join(lines)


def write_faces(
    output: Path,
    faces: Sequence[Face],
    shares: Mapping[str, float],
    summary: FaceSummary,
    *,
    unusable: Collection[str] = (),
    persons: bool,
) -> None:
    """Write labels.csv with all faces, and one list for each split with those that the age task can use.

    The files appear together, or none does; `summary` is completed and written as summary.json.

    Args:
        output: a folder.
        faces: with distinct names. labels.csv is in the order of the names, the lists in the order of their hashes: so
            that their first names, which `count` takes, are of all ages.
        shares: split -> its share of the persons.
        summary: with `source`, `read`, `dropped` and `without_picture` filled in.
        unusable: names of faces whose picture is missing or cannot be read: in no list.
        persons: whether a person is more than a picture: labels.csv then has the column `person`.

    Raises:
        InputError: no face is left, or the folder cannot be written to.
    """
    faces = sorted(faces, key=lambda face: face.name)
    if not faces:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in summary.dropped.items()) or "it is empty"
        raise InputError(f"{summary.source} holds no usable face: {reasons}. Choose another file or folder.")
    listed: dict[str, list[Face]] = {split: [] for split in shares}
    for face in faces:
        if face.age <= MOST_YEARS and face.name not in unusable:
            listed[split_of(face.person, shares)].append(face)
    summary.labelled = len(faces)
    summary.dropped = Counter(dict(summary.dropped.most_common()))
    summary.over_99_years = sum(face.age > MOST_YEARS and face.name not in unusable for face in faces)
    summary.splits = {split: len(chosen) for split, chosen in listed.items()}
    if persons:
        summary.persons = {split: len({face.person for face in chosen}) for split, chosen in listed.items()}
    # An empty list is no list, also where an earlier run wrote one: the data set then says that it has no such split.
    lists = {split: chosen for split, chosen in listed.items() if chosen}
    columns = ("name", "age", "gender", "person") if persons else ("name", "age", "gender")
    finals = [output / "labels.csv", output / "summary.json", *(output / f"{split}.txt" for split in lists)]
    with finished_files(*finals) as (labels, report, *texts):
        with open(labels, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([getattr(face, column) for column in columns] for face in faces)
        report.write_text(json.dumps(vars(summary), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for text, chosen in zip(texts, lists.values(), strict=True):
            names = sorted((face.name for face in chosen), key=digits_of)
            text.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    for split in set(shares) - set(lists):
        (output / f"{split}.txt").unlink(missing_ok=True)
