"""A data set so small that a training takes seconds: what is bright is far, faces left, and belongs to class 1."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from nddr_deploy.data.base import Sample
from nddr_deploy.tasks import Age, Classification, Depth, Normals, Segmentation, Task
from nddr_deploy.tasks.base import Array

DELAY_S = float(os.environ.get("TINY_SCENES_DELAY_S", "0"))  # a process that is to be killed must not be done before


class TinyScenes:
    """Every pixel can be read off the image's left-right gradient and brightness.

    Args:
        poison: the sample whose depths are infinite.
        wrong: the sample that has a class which does not exist.
        sparse: of every sample but each fourth, only a few columns are labelled.
    """

    def __init__(
        self,
        split: str,
        count: int = 8,
        size_hw: tuple[int, int] = (32, 40),
        poison: int | None = None,
        wrong: int | None = None,
        sparse: bool = False,
    ) -> None:
        self.first = 0 if split == "train" else 1000
        self.count = count
        self.size_hw = tuple(size_hw)
        self.poison = poison
        self.wrong = wrong
        self.sparse = sparse
        self.tasks: tuple[Task, ...] = (
            Segmentation(classes=("dark", "bright")),
            Normals(),
            Depth(),
            Age(),
            Classification("gender", ("a", "b")),
        )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        time.sleep(DELAY_S)
        random = np.random.default_rng(self.first + index)
        height, width = self.size_hw
        bright = np.zeros((height, width), dtype=bool)
        bright[:, random.integers(8, width - 8) :] = True
        image = np.where(bright[..., None], 200, 50) + random.integers(0, 20, (height, width, 3))
        normals = np.where(bright[..., None], (-0.6, 0.0, -0.8), (0.0, 0.0, -1.0)).astype(np.float32)
        depth = np.where(bright, 4.0, 2.0).astype(np.float32)
        if index == self.poison:
            depth[:] = np.inf
        labels = bright.astype(np.uint8)
        if self.sparse and index % 4:
            labels[:, 4 * (index % 4) :] = 255
            depth[:, 4 * (index % 4) :] = 0
        if index == self.wrong:
            labels[0, 0] = 7
        targets: dict[str, Array] = {
            "segmentation": labels,
            "normals": normals,
            "depth": depth,
            "age": np.asarray(20 + index, dtype=np.float32),
            "gender": np.asarray(index % 2, dtype=np.int64),
        }
        return Sample(f"scene-{index}", image.astype(np.uint8), targets)


def open_tiny(name: str, split: str, **options: Any) -> TinyScenes:
    """In place of `nddr_deploy.data.open_dataset`."""
    return TinyScenes(split, **options)


def settings(output: Path, **changes: Any) -> dict[str, Any]:
    """A configuration for `TinyScenes`; `changes` replace top-level settings."""
    return {
        "output": str(output),
        "tasks": ["segmentation", "depth"],
        "network": {
            "backbone": "vgg16_deeplab",
            "backbone_options": {"width": 0.05},
            "head_options": {"width": 0.02, "dilation": 2},
        },
        "optimiser": {"lr": 0.01, "fusion_lr_factor": 10},
        "loss": {"at": "raw"},
        "steps": 6,
        "batch_size": 4,
        "device": "cpu",
        "threads": 1,
        "eval_every": 3,
        "checkpoint_every": 2,
        "log_every": 2,
        "tensorboard": False,
        "summary": False,
        **changes,
    }


if __name__ == "__main__":  # a training in a process of its own, to be killed: python training_fakes.py CONFIG.yaml ...
    import nddr_deploy.training.run as run
    from nddr_deploy.training.__main__ import main

    run.open_dataset = open_tiny
    sys.exit(main(sys.argv[1:]))
