"""The folder in which a run keeps its settings, its files and the outcome of every step."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.files import finished_file, sha256


@dataclass(frozen=True)
class Settings:
    """What is measured and how long.

    Attributes:
        dry_run: nothing on a GPU.
        size_hw: of the models' images.
        width: factor on all channels of both networks; 1 is the full networks.
        calibration, evaluation: how many pictures are rendered for number ranges, and for comparing results.
        rounds, seconds: how often contenders take turns, and how long each is measured per round and kind.
        video: path of the video; None renders a walk-through.
        video_frames: of the rendered one; and at most of a given one.
        python_torch, python_trt: interpreters that have PyTorch, and TensorRT.
    """

    dry_run: bool = False
    size_hw: tuple[int, int] = (480, 640)
    width: float = 1.0
    calibration: int = 8
    evaluation: int = 6
    rounds: int = 5
    seconds: float = 1.0
    video: str | None = None
    video_frames: int = 1394
    python_torch: str = ""
    python_trt: str = ""

    @classmethod
    def read(cls, path: Path) -> Settings:
        values = json.loads(path.read_text())
        return cls(**{**values, "size_hw": tuple(values["size_hw"])})


class Work:
    """The folder of a run.

    Files of a network lie in a folder of its name; outcomes in `steps/NAME.json`, each with a key made of everything
    that it depends on, so that a step whose key is unchanged need not be done again.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings

    @classmethod
    def open(cls, folder: Path) -> Work:
        """One that `start` made.

        Raises:
            InputError: there is none.
        """
        path = folder / "settings.json"
        if not path.is_file():
            raise InputError(f"{folder} holds no run. Start one: python benchmarks/gpu.py --work {folder}")
        return cls(folder, Settings.read(path))

    @classmethod
    def start(cls, folder: Path, settings: Settings) -> Work:
        """Make or reuse the folder, with these settings.

        Raises:
            ConfigError: a dry run in the folder of a real one, or the other way round.
        """
        (folder / "steps").mkdir(parents=True, exist_ok=True)
        path = folder / "settings.json"
        if path.is_file() and Settings.read(path).dry_run != settings.dry_run:
            raise ConfigError(f"{folder} holds a {'real' if settings.dry_run else 'dry'} run. Choose another --work.")
        write_json(path, asdict(settings))
        return cls(folder, settings)

    def path(self, *parts: str) -> Path:
        """A file of the run; its folder is made."""
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def outcome(self, step: str) -> dict[str, Any] | None:
        """What `keep` wrote; None where the step was not done."""
        path = self._record(step)
        return json.loads(path.read_text()) if path.is_file() else None

    def result(self, step: str) -> dict[str, Any] | None:
        """The result of a step; None where it was not done, or refused."""
        return (self.outcome(step) or {}).get("result")

    def keep(self, step: str, key: str, *, seconds: float, files: Sequence[Path] = (), **found: Any) -> None:
        """Write an outcome: `result=...`, or `refused="a sentence"`."""
        named = {str(path.relative_to(self.folder)): [path.stat().st_size, sha256(path)] for path in files}
        record = {"step": step, "key": key, "at": time.strftime("%Y-%m-%d %H:%M:%S"), "seconds": seconds}
        write_json(self._record(step), {**record, "files": named, **found})

    def versions(self) -> dict[str, dict[str, str]]:
        """Interpreter -> package -> version; empty before they were asked."""
        path = self.folder / "versions.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def forget(self, step: str) -> None:
        self._record(step).unlink(missing_ok=True)

    def is_done(self, step: str, key: str) -> bool:
        """Whether its outcome is there, for this key, and its files still are."""
        outcome = self.outcome(step)
        if outcome is None or outcome["key"] != key:
            return False
        return all(
            (self.folder / name).is_file() and (self.folder / name).stat().st_size == size
            for name, (size, _) in outcome["files"].items()
        )

    def key(self, name: str, modules: Sequence[Path], settings: Sequence[str], inputs: Sequence[str]) -> str:
        """A hash of a step's code, of those settings that it reads, and of its inputs' outcomes."""
        known = {field.name: getattr(self.settings, field.name) for field in fields(Settings)}
        found = [name, [sha256(module) for module in modules], {each: known[each] for each in settings}]
        for step in inputs:
            outcome = self.outcome(step)
            found.append(outcome and [step, outcome["key"], outcome["files"], outcome.get("refused")])
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()

    def _record(self, step: str) -> Path:
        return self.folder / "steps" / f"{step}.json"


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    with finished_file(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n")
