"""Data sets by name. `open_dataset("rooms", "train", count=1000)`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from nddr_deploy import optional
from nddr_deploy.errors import unknown_choice

if TYPE_CHECKING:
    from nddr_deploy.data.base import Dataset

DATASETS = {
    "rooms": "nddr_deploy.data.rooms.dataset:Rooms",
    "faces": "nddr_deploy.data.faces.dataset:Faces",
    "folder": "nddr_deploy.data.folder:Folder",
}


def open_dataset(name: str, split: str = "train", **options: Any) -> Dataset:
    """Open one part of a data set.

    Args:
        name: key of `DATASETS`.
        split: "train", "val" or "test"; they have no sample in common.
        options: of the data set: the keyword arguments of its class.

    Raises:
        ConfigError: an unknown name, split or option, or a value that the data set cannot use.
        InputError: files of the data set are missing or wrong.
    """
    if name not in DATASETS:
        raise unknown_choice("data", name, DATASETS)
    dataset = optional.load(DATASETS[name], extra=None)
    known = [key for key in inspect.signature(dataset).parameters if key != "split"]
    for key in options:
        if key not in known:
            raise unknown_choice(f"option of {name}", key, known)
    opened: Dataset = dataset(split, **options)
    return opened
