"""What is kept of a finished training: one small JSON file, found again by the digest of its settings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nddr_deploy.errors import InputError
from nddr_deploy.evaluate.score import Scores
from nddr_deploy.experiments.plan import Run
from nddr_deploy.files import finished_file


@dataclass(frozen=True)
class Result:
    """One finished run.

    Attributes:
        digest: see `Run.digest`.
        name, seed: for people.
        settings: what differs from nddr-train's defaults; paths are left out.
        starts: task -> digest of the run that it started from.
        metrics: task -> metric -> value on the judged split; empty where the training failed.
        failed: why it failed, as a loss that became NaN; "" where it did not.
        steps, seconds, images_per_s: of the training alone.
        machine: see `engines.machine`, and "device".
        versions: of this package (and its commit), Python's packages.
        date: of the end, UTC.
    """

    digest: str
    name: str
    seed: int
    settings: Mapping[str, Any]
    starts: Mapping[str, str]
    metrics: Scores
    failed: str
    steps: int
    seconds: float
    images_per_s: float
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    date: str
    judged_on: Mapping[str, Any] = field(default_factory=dict)


class Results:
    """The folder of results. Several tables, machines and people may share it.

    Args:
        folder: made when the first result is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, run: Run) -> Result | None:
        """The run's result, if it was finished before.

        Raises:
            InputError: the file is damaged.
        """
        for path in sorted(self.folder.glob(f"*-{run.digest[:10]}.json")):
            try:
                result = Result(**json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                raise InputError(f"{path} is no result of a training ({error}). Remove it to train again.") from error
            if result.digest == run.digest:
                return result
        return None

    def write(self, run: Run, result: Result) -> Path:
        """
        Raises:
            InputError, OutputError: the folder cannot be written to, or the disk is full.
        """
        made_folder(self.folder, "Choose another --results.")
        path = self.folder / f"{run.key}.json"
        with finished_file(path) as new:
            new.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
        return path


def made_folder(folder: Path, advice: str) -> Path:
    """The folder, made where it was missing; files can be written into it.

    Raises:
        InputError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made ({error.strerror}). {advice}") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"The folder {folder} cannot be written to. {advice}")
    return folder
