"""From a table to trainings: which networks it takes, and which of them start from which."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.experiments.spec import Row, Settings, TableSpec, merged
from nddr_deploy.files import sha256
from nddr_deploy.training.config_file import changed_settings, config_from_dict
from nddr_deploy.training.state import FREE_TO_CHANGE

LISTS = ("*.txt", "labels.csv")  # of a folder data set: they say which samples it has


@dataclass(frozen=True)
class Run:
    """One training, and what it starts from.

    Attributes:
        name: for people and folders.
        settings: of nddr-train, without `output`, and without the starts below.
        seed: is in `settings`, too.
        starts: task -> the run of its single-task network; or "streams" -> the run that all streams start from.
        judged_on: see `TableSpec`.
        digest: SHA-256 of everything that decides the result: settings, data, starts; not where files lie.
    """

    name: str
    settings: Settings
    seed: int
    judged_on: Settings
    starts: Mapping[str, Run] = field(default_factory=dict)
    digest: str = ""

    @property
    def key(self) -> str:
        """Short, unique, and says what it is."""
        return f"{self.name}-seed{self.seed}-{self.digest[:10]}"


@dataclass(frozen=True)
class Plan:
    """The runs of one table.

    Attributes:
        spec: the table.
        cells: (row name, seed) -> the runs whose metrics together fill the row.
    """

    spec: TableSpec
    cells: Mapping[tuple[str, int], tuple[Run, ...]]

    def runs(self) -> list[Run]:
        """Every run once, each after those that it starts from; one seed after the other."""
        ordered: dict[str, Run] = {}
        for _, runs in sorted(self.cells.items(), key=lambda cell: cell[0][1]):
            for run in runs:
                for start in run.starts.values():
                    ordered.setdefault(start.digest, start)
                ordered.setdefault(run.digest, run)
        return list(ordered.values())


def make_plan(
    spec: TableSpec,
    seeds: Sequence[int],
    *,
    data: str | None = None,
    pretrained: str | None = None,
    processes: int = 1,
) -> Plan:
    """All runs of a table.

    Args:
        seeds: of weights, order and variation. The data are the same.
        data: folder of the data set, in the `folder` layout, where the scale's settings leave it open.
        pretrained: a torchvision weight file that every network starts from that would start at random.
        processes: that train one network together. BatchNorm sees the images of one process, so they decide.

    Raises:
        ConfigError: the table needs data or a weight file that was not given, or its settings are wrong.
        InputError: the weight file cannot be read.
    """
    maker = _Maker(spec, data, pretrained, processes)
    return Plan(spec, {(row.name, seed): maker.runs_of(row, seed) for seed in seeds for row in spec.rows})


class _Maker:
    def __init__(self, spec: TableSpec, data: str | None, pretrained: str | None, processes: int) -> None:
        self.spec = spec
        # Absolute: a training goes on with the same settings, wherever the command is started.
        self.file = None if pretrained is None else str(Path(pretrained).absolute())
        self.file_digest = None if self.file is None else _file_digest(self.file)
        self.data = None if data is None else str(Path(data).absolute())
        self.fingerprint = None if data is None else data_fingerprint(Path(data))
        self.processes = processes

    def runs_of(self, row: Row, seed: int) -> tuple[Run, ...]:
        if row.each:
            return tuple(self._alone(row, task, seed) for task in self.spec.tasks)
        settings = merged(self.spec.settings(row.stage), {"tasks": list(self.spec.tasks)}, row.settings)
        if row.start == "single":
            starts = {task: self._alone(self._like_single(row), task, seed) for task in self.spec.tasks}
            return (self._run(settings, seed, starts),)
        if row.start == "pretrained" and self.file is None:
            return (self._run(settings, seed, {"streams": self._pretrained(seed)}),)
        return (self._run(self._from_file(settings), seed),)

    def _alone(self, row: Row, task: str, seed: int) -> Run:
        settings = _for_one_task(merged(self.spec.settings(row.stage), row.settings), task)
        if row.start == "single":
            return self._run(settings, seed, {task: self._alone(self._like_single(row), task, seed)})
        return self._run(self._from_file(settings), seed)

    def _like_single(self, row: Row) -> Row:
        """The single-task networks that a row starts from: its backbone, heads and shortcut, no fusion."""
        network = {
            key: value for key, value in (row.settings.get("network") or {}).items() if not key.startswith("fus")
        }  # fusion, fusion_options, fused_stages
        return Row(row.name, stage="single", each=True, start="random", settings={"network": network})

    def _pretrained(self, seed: int) -> Run:
        if not self.spec.sections["pretrained"]:
            raise ConfigError(
                f"{self.spec.name} at scale {self.spec.scale} starts from pretrained weights. Give a torchvision "
                "weight file of the backbone with --pretrained."
            )
        settings = self.spec.settings("pretrained")
        return self._run(_for_one_task(settings, settings.get("tasks", self.spec.tasks)[0]), seed)

    def _from_file(self, settings: dict[str, Any]) -> dict[str, Any]:
        return settings if self.file is None else merged(settings, {"start": {"imagenet": self.file}})

    def _run(self, settings: Settings, seed: int, starts: Mapping[str, Run] | None = None) -> Run:
        settings = merged(settings, {"seed": seed})
        if settings.get("data", {}).get("name") == "folder":
            if self.data is None:
                raise ConfigError(
                    f"{self.spec.name} at scale {self.spec.scale} needs real data with "
                    f"{' and '.join(self.spec.tasks)}. Make a folder of it with nddr-data (docs/data.md), and give it "
                    "with --data."
                )
            settings = merged(settings, {"data": {"options": {"path": self.data}}})
        run = Run(_name(settings), settings, seed, self.spec.judged_on, starts or {})
        return replace(run, digest=self._digest(run))

    def _digest(self, run: Run) -> str:
        decisive = json.loads(_decisive(json.dumps(run.settings)))
        if "path" in decisive.get("data", {}).get("options", {}):
            decisive["data"]["options"]["path"] = self.fingerprint
        if self.file is not None and "imagenet" in decisive.get("start", {}):
            decisive["start"]["imagenet"] = self.file_digest
        identity: dict[str, Any] = {
            "settings": decisive,
            "judged_on": run.judged_on,
            "starts": {task: start.digest for task, start in run.starts.items()},
        }
        if self.processes > 1:
            identity["processes"] = self.processes
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _file_digest(path: str) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Give a torchvision weight file.") from error


@cache  # reading a configuration takes 40 ms, and a table asks for the same ones again and again
def _decisive(settings: str) -> str:
    """What of the settings (JSON) differs from the defaults and changes the result, as JSON."""
    changed = changed_settings(config_from_dict(json.loads(settings)))
    return json.dumps({key: value for key, value in changed.items() if key not in FREE_TO_CHANGE})


def data_fingerprint(folder: Path) -> str:
    """SHA-256 of what a folder data set holds, not of where it lies: its lists and labels, and where labels are files,
    their names and sizes and those of the pictures. Pictures beside a labels.csv count by their names alone.

    Raises:
        ConfigError: there is no list in it.
    """
    lists = sorted(file for pattern in LISTS for file in folder.glob(pattern))
    if not lists:
        raise ConfigError(f"{folder} holds no lists of samples (train.txt, ...). Make it with nddr-data.")
    lines = [f"{file.name} {sha256(file)}\n" for file in lists]
    parts = sorted(part for part in folder.iterdir() if part.is_dir() and not part.name.startswith("."))
    if [part.name for part in parts] != ["images"]:
        files = sorted(file for part in parts for file in part.rglob("*") if file.is_file())
        lines += [f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def all_runs(plans: Iterable[Plan]) -> list[Run]:
    """The runs of several tables, each once, in order."""
    ordered: dict[str, Run] = {}
    for plan in plans:
        for run in plan.runs():
            ordered.setdefault(run.digest, run)
    return list(ordered.values())


def _for_one_task(settings: Settings, task: str) -> dict[str, Any]:
    """A network for one task: no fusion, and nothing that is said of other tasks' losses."""
    alone = merged(settings, {"tasks": [task], "network": {"fusion": "none", "fusion_options": None}})
    for part in ("weights", "kinds"):
        if part in alone.get("loss", {}):
            alone["loss"][part] = {name: value for name, value in alone["loss"][part].items() if name == task}
    return alone


def _name(settings: Settings) -> str:
    """`vgg16-nddr`, `vgg16-shortcut-age`: what the network is; tables that share a run call its row differently."""
    network, tasks = settings.get("network", {}), settings.get("tasks", [])
    shortcut = network.get("shortcut", "none") != "none"
    what = tasks[0] if len(tasks) == 1 else network.get("fusion", "nddr")
    return "-".join([network.get("backbone", "vgg16_deeplab"), *(["shortcut"] if shortcut else []), what])
