"""`folder`: a user's own pictures with labels, in one plain layout.

    ROOT/
      classes.txt              names of the segmentation classes, one a line, in the order of the labels
      train.txt, val.txt, ...  names of each split's samples, one a line; no such file: all samples in every split
      images/NAME.jpg          pictures, any common format
      segmentation/NAME.png    8 bits, one channel (or palette): 0 .. C - 1, 255 = not labelled
      depth/NAME.png           16 bits, one channel: millimetres; or depth/NAME.npy: metres; 0 = unknown
      normals/NAME.npy         (H, W, 3): unit vectors toward the camera, x right, y down, z forward; 0 0 0 = unknown
      sal/NAME.png             8 bits, one channel: 1 where something stands out, 0 elsewhere, 255 = not labelled
      edge/NAME.png            the same for where an edge runs
      labels.csv               columns name, age (years) and gender (male or female)

A task exists where its sub-folder (or column) does. Every file is checked when it is read, and named if it is wrong.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nddr_deploy.data.base import Sample
from nddr_deploy.data.label_files import read_binary, read_depth, read_normals, read_segmentation
from nddr_deploy.data.pictures import PICTURE_SUFFIXES, read_picture
from nddr_deploy.data.splits import SPLITS, checked_index, checked_size, chosen_tasks
from nddr_deploy.errors import ConfigError, InputError, unknown_choice
from nddr_deploy.preprocess import Fit, Image
from nddr_deploy.tasks import IGNORE_LABEL, Age, Binary, Classification, Depth, Normals, Segmentation, Task
from nddr_deploy.tasks.base import Array

GENDERS = ("male", "female")
BINARY = ("sal", "edge")
DENSE = {
    "segmentation": (".png",),
    "normals": (".npy",),
    "depth": (".png", ".npy"),
    **dict.fromkeys(BINARY, (".png",)),
}


class Folder:
    """Pictures and labels in a folder; see this module for the layout.

    Args:
        split: "train", "val" or "test": which list of names to use.
        path: the folder ROOT.
        size_hw: bring pictures and dense labels to this size, keeping their shape and padding the rest (labels: not
            labelled); None: each as it is.
        count: take only the first ones; None: all.
        tasks: names of the tasks to give targets for, in that order; None: all that are there.
        max_m: the largest depth in metres that the depth task shows and learns.

    Raises:
        ConfigError: an unknown split or task, no path.
        InputError: the folder, a list, a label file is missing or wrong; the message names it.
    """

    def __init__(
        self,
        split: str,
        *,
        path: str | None = None,
        size_hw: Sequence[int] | None = None,
        count: int | None = None,
        tasks: Sequence[str] | None = None,
        max_m: float = 10.0,
    ) -> None:
        if path is None:
            raise ConfigError("folder: `path` is missing. Give the folder that holds `images`, as in path=my_data.")
        if count is not None and count < 1:
            raise ConfigError(f"count must be at least 1; got {count}.")
        self.root = Path(path)
        self.size_hw = None if size_hw is None else checked_size(size_hw, least=16)
        self._pictures = _pictures(self.root)
        self.names = _names(self.root, split, self._pictures)[:count]
        self._labels = _table(self.root)
        self.tasks = chosen_tasks(tasks, _tasks(self.root, self._labels, max_m))
        for name in self.names:
            for task in self.tasks:
                self._label_of(task, name)  # a missing file is found now, not in the middle of a training

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[checked_index(index, len(self.names))]
        image = read_picture(self._pictures[name])
        targets = {task.name: self._target(task, name, image) for task in self.tasks}
        if self.size_hw is None or image.shape[:2] == self.size_hw:
            return Sample(name, image, targets)
        fit = Fit.of((image.shape[0], image.shape[1]), self.size_hw)
        fitted = {task.name: _fitted(task, targets[task.name], fit) for task in self.tasks}
        return Sample(name, fit.apply(image), fitted)

    def _label_of(self, task: Task, name: str) -> Path | str:
        """The file, or the cell of the table, that holds a label."""
        if task.name in DENSE:
            for suffix in DENSE[task.name]:
                file = self.root / task.name / f"{name}{suffix}"
                if file.is_file():
                    return file
            wanted = " or ".join(f"{name}{suffix}" for suffix in DENSE[task.name])
            raise InputError(f"{self._pictures[name]} has no {task.name} label: {self.root / task.name / wanted}.")
        if name not in self._labels or not self._labels[name].get(task.name):
            raise InputError(f"{self.root / 'labels.csv'} has no {task.name} for {name!r}.")
        return self._labels[name][task.name]

    def _target(self, task: Task, name: str, image: Image) -> Array:
        label = self._label_of(task, name)
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


def _pictures(root: Path) -> dict[str, Path]:
    images = root / "images"
    if not images.is_dir():
        raise InputError(f"The folder {images} does not exist. Put the pictures of the data set there.")
    found: dict[str, Path] = {}
    for file in sorted(images.iterdir()):
        if file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith("."):
            if file.stem in found:
                raise InputError(f"{found[file.stem]} and {file} have the same name. Rename one of them.")
            found[file.stem] = file
    if not found:
        raise InputError(f"The folder {images} holds no pictures ({', '.join(PICTURE_SUFFIXES)}).")
    return found


def _names(root: Path, split: str, pictures: Mapping[str, Path]) -> list[str]:
    lists = sorted(file.stem for file in root.glob("*.txt") if file.stem != "classes")
    if not lists:
        if split not in SPLITS:
            raise unknown_choice("split", split, SPLITS)
        return list(pictures)
    if split not in lists:
        raise unknown_choice(f"split of {root}", split, lists)
    names = _lines(root / f"{split}.txt")
    if not names:
        raise InputError(f"{root / split}.txt is empty; expected the names of pictures, one a line.")
    for name in names:
        if name not in pictures:
            raise InputError(f"{root / split}.txt names {name!r}, but {root / 'images'} has no picture of that name.")
    return names


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as text: {error}.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _table(root: Path) -> dict[str, dict[str, str]]:
    """labels.csv as name -> column -> text; empty without the file."""
    file = root / "labels.csv"
    if not file.is_file():
        return {}
    rows = list(csv.DictReader(_lines(file), skipinitialspace=True))
    table = {row["name"]: {key: value or "" for key, value in row.items()} for row in rows if row.get("name")}
    if not table:
        raise InputError(f"{file} has no rows with a name; expected a heading line with the columns name, age, gender.")
    return table


def _tasks(root: Path, table: Mapping[str, Mapping[str, str]], max_m: float) -> list[Task]:
    tasks: list[Task] = []
    if (root / "segmentation").is_dir():
        if not (root / "classes.txt").is_file():
            raise InputError(f"{root / 'classes.txt'} does not exist; expected the names of the classes, one a line.")
        tasks.append(Segmentation("segmentation", classes=tuple(_lines(root / "classes.txt"))))
    if (root / "normals").is_dir():
        tasks.append(Normals("normals"))
    if (root / "depth").is_dir():
        tasks.append(Depth("depth", max_m=max_m))
    tasks += [Binary(name) for name in BINARY if (root / name).is_dir()]
    columns = next(iter(table.values()), {})
    if "age" in columns:
        tasks.append(Age("age", classes=100))
    if "gender" in columns:
        tasks.append(Classification("gender", classes=GENDERS))
    if not tasks:
        raise InputError(f"{root} holds no labels; expected one of the folders {', '.join(DENSE)}, or labels.csv.")
    return tasks


def _fitted(task: Task, target: Array, fit: Fit) -> Array:
    """A dense target brought to the model's image like the picture, by nearest pixel; the border is not labelled."""
    if task.head == "pooled":
        return target
    rows = ((np.arange(fit.height) + 0.5) * fit.frame_hw[0] / fit.height).astype(int)
    columns = ((np.arange(fit.width) + 0.5) * fit.frame_hw[1] / fit.width).astype(int)
    border = IGNORE_LABEL if target.dtype == np.uint8 else 0
    fitted = np.full((*fit.size_hw, *target.shape[2:]), border, target.dtype)
    fitted[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = target[rows][:, columns]
    return fitted
