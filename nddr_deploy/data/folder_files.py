"""What lies in a folder of the layout that `folder.py` describes: pictures, lists, labels."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from nddr_deploy.data.label_files import read_binary, read_depth, read_normals, read_segmentation
from nddr_deploy.data.pictures import PICTURE_SUFFIXES, read_picture
from nddr_deploy.data.splits import SPLITS
from nddr_deploy.errors import InputError, unknown_choice
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks import Age, Binary, Classification, Depth, Normals, Segmentation, Task
from nddr_deploy.tasks.base import Array

GENDERS = ("male", "female")
BINARY = ("sal", "edge")
DENSE = {
    "segmentation": (".png",),
    "normals": (".npy",),
    "depth": (".png", ".npy"),
    **dict.fromkeys(BINARY, (".png",)),
}


class FolderFiles:
    """The files of a folder, listed once.

    Args:
        path: the folder.
        segmentation: the sub-folder that holds the labels of the segmentation task.

    Attributes:
        pictures: name -> its path below `images`.

    Raises:
        InputError: there are no pictures, or two of the same name.
    """

    def __init__(self, path: str | os.PathLike[str], segmentation: str = "segmentation") -> None:
        self.root = Path(path)
        plain = segmentation and Path(segmentation).name == segmentation
        if not plain or (segmentation != "segmentation" and not (self.root / segmentation).is_dir()):
            raise InputError(
                f"segmentation: {self.root} has no sub-folder {segmentation!r} with labels. Name one that it has."
            )
        self._segmentation = segmentation
        self.pictures = pictures_of(self.root)
        self._table = _table(self.root)
        places = {task: self._place(task) for task in DENSE}
        self._listed = {task: frozenset(_files(place)) for task, place in places.items() if place.is_dir()}

    def _place(self, task: str) -> Path:
        """The sub-folder with a task's labels."""
        return self.root / (self._segmentation if task == "segmentation" else task)

    def lists(self) -> list[str]:
        """The splits that a list is there for."""
        return sorted(file.stem for file in self.root.glob("*.txt") if file.stem != "classes" and file.name[0] != ".")

    def names(self, split: str) -> list[str]:
        """The samples of a split, in the order of its list; without lists all, for each split.

        Raises:
            ConfigError: there is no such split.
            InputError: its list is empty, or names a picture that is not there.
        """
        lists = self.lists()
        if not lists:
            if split not in SPLITS:
                raise unknown_choice("split", split, SPLITS)
            return list(self.pictures)
        if split not in lists:
            raise unknown_choice(f"split of {self.root}", split, lists)
        names = self.listed(split)
        for name in names:
            self.check_picture(name, split)
        return names

    def listed(self, split: str) -> list[str]:
        """What the list of a split says.

        Raises:
            InputError: it is empty, or no text.
        """
        file = self.root / f"{split}.txt"
        names = _lines(file)
        if not names:
            raise InputError(f"{file} is empty; expected the names of pictures, one a line.")
        return names

    def check_picture(self, name: str, split: str) -> None:
        """Raises InputError where a name of a split's list has no picture."""
        if name not in self.pictures:
            raise InputError(
                f"{self.root / split}.txt names {name!r}, but {self.root / 'images'} has no picture of that name."
            )

    def tasks(self, max_m: float) -> list[Task]:
        """The tasks that there are labels for; depth goes up to `max_m` metres.

        Raises:
            InputError: there are none, or segmentation has no names of classes.
        """
        tasks: list[Task] = []
        if "segmentation" in self._listed:
            place = self.root if self._segmentation == "segmentation" else self.root / self._segmentation
            if not (place / "classes.txt").is_file():
                raise InputError(
                    f"{place / 'classes.txt'} does not exist; expected the names of the classes, one a line."
                )
            tasks.append(Segmentation("segmentation", classes=tuple(_lines(place / "classes.txt"))))
        if "normals" in self._listed:
            tasks.append(Normals("normals"))
        if "depth" in self._listed:
            tasks.append(Depth("depth", max_m=max_m))
        tasks += [Binary(name) for name in BINARY if name in self._listed]
        columns = next(iter(self._table.values()), {})
        if "age" in columns:
            tasks.append(Age("age", classes=100))
        if "gender" in columns:
            tasks.append(Classification("gender", classes=GENDERS))
        if not tasks:
            raise InputError(
                f"{self.root} holds no labels; expected one of the folders {', '.join(DENSE)}, or labels.csv."
            )
        return tasks

    def picture(self, name: str) -> Image:
        """RGB uint8 (H, W, 3).

        Raises:
            InputError: the file cannot be read.
        """
        return read_picture(self.root / "images" / self.pictures[name])

    def label(self, task: Task, name: str) -> Path | str:
        """The file, or the cell of the table, that holds a label.

        Raises:
            InputError: there is none.
        """
        if task.name in DENSE:
            for suffix in DENSE[task.name]:
                if f"{name}{suffix}" in self._listed[task.name]:
                    return self._place(task.name) / f"{name}{suffix}"
            wanted = self._place(task.name) / " or ".join(f"{name}{suffix}" for suffix in DENSE[task.name])
            raise InputError(f"{self.root / 'images' / self.pictures[name]} has no {task.name} label: {wanted}.")
        text = self._table.get(name, {}).get(task.name)
        if not text:
            raise InputError(f"{self.root / 'labels.csv'} has no {task.name} for {name!r}.")
        return text

    def target(self, task: Task, name: str, image: Image) -> Array:
        """A label, as `data.base.Sample` says, checked against its picture.

        Raises:
            InputError: it is missing or wrong; the message names the file.
        """
        label = self.label(task, name)
        size_hw = image.shape[0], image.shape[1]
        if isinstance(task, Segmentation):
            return read_segmentation(Path(label), size_hw, len(task.classes))
        if isinstance(task, Normals):
            return read_normals(Path(label), size_hw)
        if isinstance(task, Depth):
            return read_depth(Path(label), size_hw)
        if isinstance(task, Binary):
            return read_binary(Path(label), size_hw)
        where = f"{self.root / 'labels.csv'}, {name!r}"
        if isinstance(task, Classification):
            if label not in task.classes:
                raise InputError(f"{where}: {task.name} is {label!r}; expected one of {', '.join(task.classes)}.")
            return np.array(task.classes.index(str(label)), np.int64)
        try:
            age = float(str(label))
        except ValueError:
            age = -1.0
        if not 0 <= age < 100:
            raise InputError(f"{where}: age is {label!r}; expected years from 0 to below 100.")
        return np.array(age, np.float32)


def pictures_of(root: Path) -> dict[str, str]:
    """The pictures below ROOT/images: name -> path, both below `images`; sorted by path.

    Raises:
        InputError: there are none, or two of the same name.
    """
    images = root / "images"
    for folder in (root, images):
        if not folder.is_dir():
            problem = "is no folder" if folder.exists() else "does not exist"
            raise InputError(f"{folder} {problem}. Give a folder with the pictures in images/ (see docs/data.md).")
    found: dict[str, str] = {}
    for file in sorted(_files(images)):
        name, suffix = os.path.splitext(file)  # noqa: PTH122 - 460,000 objects of Path would take seconds
        if suffix.lower() in PICTURE_SUFFIXES:
            if name in found:
                raise InputError(f"{images / found[name]} and {images / file} have the same name. Rename one of them.")
            found[name] = file
    if not found:
        raise InputError(f"The folder {images} holds no pictures ({', '.join(PICTURE_SUFFIXES)}).")
    return found


def _files(folder: Path | str, below: str = "") -> Iterator[str]:
    """Files in a folder and the folders in it, as paths below it with "/"; hidden ones are left out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path, f"{below}{entry.name}/")
            else:
                yield f"{below}{entry.name}"


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as text: {error}.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _table(root: Path) -> Mapping[str, Mapping[str, str]]:
    """labels.csv as name -> column -> text; empty without the file."""
    file = root / "labels.csv"
    if not file.is_file():
        return {}
    rows = list(csv.DictReader(_lines(file), skipinitialspace=True))
    table = {row["name"]: {key: value or "" for key, value in row.items()} for row in rows if row.get("name")}
    if not table:
        raise InputError(f"{file} has no rows with a name; expected a heading line with the columns name, age, gender.")
    return table
