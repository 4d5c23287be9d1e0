"""The folder of a run: what is in it, and when a new run may use it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.files import finished_file

RECORDS = ("log.txt", "coupling.csv", "summary.html")  # of a training, besides metrics.csv


@dataclass(frozen=True)
class RunFolder:
    """Where a training keeps its files.

    Attributes:
        path: of the folder.
    """

    path: Path

    @property
    def finished(self) -> Path:
        """The model after the last step; there only when the training is complete."""
        return self.path / "ckpt.pt"

    @property
    def last(self) -> Path:
        """The state to resume from."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """The weights of the best validation."""
        return self.path / "best.pt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    def begin(self, config_yaml: str, *, overwrite: bool) -> None:
        """Make the folder ready for a new run and write its config.yaml.

        Raises:
            ConfigError: it holds a training already, and `overwrite` is False.
            InputError: it cannot be made.
        """
        ours = [path for path in (self.finished, self.last, self.best, self.metrics) if path.exists()]
        if ours and not overwrite:
            raise ConfigError(
                f"{self.path} holds a training already ({ours[0].name}). Continue it with --resume, replace it with "
                "--overwrite, or choose another --output."
            )
        for path in (*ours, *(self.path / name for name in RECORDS)):
            path.unlink(missing_ok=True)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The folder {self.path} cannot be made ({error.strerror}). Choose another --output."
            ) from error
        for events in self.path.glob("tensorboard/events.out.tfevents.*"):
            events.unlink()
        with finished_file(self.path / "config.yaml") as new:
            new.write_text(config_yaml, encoding="utf-8")

    def finish(self) -> None:
        """The last state is the finished model."""
        with finished_file(self.finished) as new:
            shutil.copyfile(self.last, new)
