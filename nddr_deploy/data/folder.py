"""`folder`: a user's own pictures with labels, in one plain layout.

    ROOT/
      classes.txt              names of the segmentation classes, one a line, in the order of the labels
      train.txt, val.txt, ...  names of each split's samples, one a line; no such file: all samples in every split
      images/NAME.jpg          pictures, any common format
      segmentation/NAME.png    8 bits, one channel (or palette): 0 .. C - 1, 255 = not labelled
      OTHER/NAME.png           the same with other classes, named in OTHER/classes.txt: option segmentation=OTHER
      depth/NAME.png           16 bits, one channel: millimetres; or depth/NAME.npy: metres; 0 = unknown
      normals/NAME.npy         (H, W, 3): unit vectors toward the camera, x right, y down, z forward; 0 0 0 = unknown
      sal/NAME.png             8 bits, one channel: 1 where something stands out, 0 elsewhere, 255 = not labelled
      edge/NAME.png            the same for where an edge runs
      labels.csv               columns name, age (years) and gender (male or female)

A NAME may have folders in it, as in `kitchen/001`: images/kitchen/001.jpg, segmentation/kitchen/001.png. Hidden files
do not count; `images` may be a link to a folder, links to folders inside are not followed. A task exists where its
sub-folder (or column) does. Every file is checked when it is read, and named if it is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nddr_deploy.data.base import Sample
from nddr_deploy.data.folder_files import FolderFiles
from nddr_deploy.data.splits import checked_index, checked_size, chosen_tasks
from nddr_deploy.errors import ConfigError
from nddr_deploy.preprocess import Fit
from nddr_deploy.tasks import IGNORE_LABEL, Task
from nddr_deploy.tasks.base import Array


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
        segmentation: the sub-folder with the labels of the segmentation, for data with several sets of classes;
            of another one than "segmentation", the names of the classes are in its own classes.txt.

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
        segmentation: str = "segmentation",
    ) -> None:
        if path is None:
            raise ConfigError("folder: `path` is missing. Give the folder that holds `images`, as in path=my_data.")
        if count is not None and count < 1:
            raise ConfigError(f"count must be at least 1; got {count}.")
        self.size_hw = None if size_hw is None else checked_size(size_hw, least=16)
        self._files = FolderFiles(path, segmentation)
        self.names = self._files.names(split)[:count]
        self.tasks = chosen_tasks(tasks, self._files.tasks(max_m))
        for name in self.names:
            for task in self.tasks:
                self._files.label(task, name)  # a missing file is found now, not in the middle of a training

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[checked_index(index, len(self.names))]
        image = self._files.picture(name)
        targets = {task.name: self._files.target(task, name, image) for task in self.tasks}
        if self.size_hw is None or image.shape[:2] == self.size_hw:
            return Sample(name, image, targets)
        fit = Fit.of((image.shape[0], image.shape[1]), self.size_hw)
        fitted = {task.name: _fitted(task, targets[task.name], fit) for task in self.tasks}
        return Sample(name, fit.apply(image), fitted)


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
