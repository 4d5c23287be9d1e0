"""Rendered rooms: some to measure number ranges on, others to compare results on; and the video, if none is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gpu_steps.work import Work
from nddr_deploy.data.base import Sample
from nddr_deploy.data.rooms import Rooms, render_walkthrough
from nddr_deploy.preprocess import Image

RATE = 20


def run(work: Work) -> tuple[dict[str, Any], list[Path]]:
    """`pictures/calibration/*.png` and `pictures/evaluation.npz`."""
    import cv2

    folder = work.path("pictures", "calibration", "x").parent
    files = []
    for sample in samples(work, "train", work.settings.calibration):
        path = folder / f"{sample.name}.png"
        cv2.imwrite(str(path), cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR))
        files.append(path)
    images = np.stack([sample.image for sample in samples(work, "test", work.settings.evaluation)])
    evaluation = work.path("pictures", "evaluation.npz")
    np.savez(evaluation, images=images)
    return {"kind": "rendered rooms", "calibration": len(files), "evaluation": len(images)}, [*files, evaluation]


def run_video(work: Work) -> tuple[dict[str, Any], list[Path]]:
    """`pictures/walk.mp4`, or nothing where a video was given."""
    if work.settings.video:
        return {"kind": "given", "name": Path(work.settings.video).name}, []
    path = work.path("pictures", "walk.mp4")
    render_walkthrough(path, seed=7, frames=work.settings.video_frames, rate=RATE, size_hw=work.settings.size_hw)
    return {"kind": "rendered walk-through", "name": path.name}, [path]


def samples(work: Work, split: str, count: int) -> list[Sample]:
    """The same ones every time; no room of one split is in the other."""
    rooms = Rooms(split, count=count, size_hw=work.settings.size_hw, tasks=["segmentation", "normals"])
    return [rooms[index] for index in range(count)]


def evaluation_images(work: Work) -> Image:
    """uint8 (count, H, W, 3)."""
    with np.load(work.path("pictures", "evaluation.npz"), allow_pickle=False) as arrays:
        images: Image = arrays["images"]
        return images


def video_path(work: Work) -> Path:
    return Path(work.settings.video) if work.settings.video else work.path("pictures", "walk.mp4")
