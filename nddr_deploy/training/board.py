"""TensorBoard's files of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from nddr_deploy import optional
from nddr_deploy.preprocess import Image


class Board:
    """Numbers and pictures for TensorBoard. Nothing of TensorBoard is loaded before one is made.

    Args:
        folder: where its files go.
        first: steps that are done already; what the files have of later ones is no longer shown.

    Raises:
        MissingPackageError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, first: int) -> None:
        writer = optional.load("torch.utils.tensorboard:SummaryWriter", extra="train")
        self._writer = writer(str(folder), purge_step=first + 1)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Points of curves; those that are no finite number are left out."""
        for name, value in values.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, picture: Image) -> None:
        """An RGB picture, uint8 (H, W, 3)."""
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()
