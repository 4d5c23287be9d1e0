"""What a table compares: columns, rows and their settings, read from YAML. `examples/tables/` holds the paper's.

A table's file names its `protocol`, a second file in the same folder that many tables share:

    tasks: [segmentation, normals]
    columns: {normals: [mean_angle], segmentation: [mIoU]}      the metrics shown, in this order
    scales:                                                     `--scale`: how large everything is
      tiny:
        judged_on: {split: test, options: {count: 300}}         what every finished network is scored on
        every: {batch_size: 2}                                  settings of nddr-train for all networks,
        single: {steps: 2}                                      for those that are trained on one task,
        fused: {steps: 2}                                       for those that start from them,
        long: {steps: 4}                                        and for those that get the steps of both (upon `single`)
        pretrained: {data: {options: {seed: 1}}}                the network that Table 3 starts from (upon `single`)

The table itself:

    title: ...
    protocol: pixels
    settings: {network: {backbone: alexnet}}                    upon the protocol's, in every network
    scales: {tiny: {every: {...}, single: {...}}}               the same for one scale
    rows:
      NDDR:
        stage: fused                                            single, long or fused
        each: false                                             true: one network per task, as the single-task row
        start: single                                           single (the single-task networks), pretrained, random
                                                                (with --pretrained, the last two mean that file)
        settings: {network: {fusion: nddr}}
        paper: [13.9, 36.2]                                     in the order of the columns; shares in per cent
        about: ...                                              a remark printed below the table
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nddr_deploy.errors import ConfigError, unknown_choice

STAGES = ("single", "fused", "long")
STARTS = ("random", "single", "pretrained")
SECTIONS = ("every", *STAGES, "pretrained")
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One method of a table.

    Attributes:
        name: as in the paper.
        stage: whose settings its networks are trained with: "single", "fused" or "long".
        each: one network per task instead of one for all.
        start: "random", "single" or "pretrained".
        settings: of nddr-train, upon everything else.
        paper: the paper's numbers in the order of the columns; empty where they are not known.
        about: a remark for people.
    """

    name: str
    stage: str = "fused"
    each: bool = False
    start: str = "single"
    settings: Settings = field(default_factory=dict)
    paper: tuple[float, ...] = ()
    about: str = ""


@dataclass(frozen=True)
class TableSpec:
    """One table at one scale.

    Attributes:
        name: its file's, as in "table4".
        title: for people.
        scale: as asked for.
        tasks: names, in the order of the networks' outputs.
        columns: (task, metric) pairs.
        judged_on: {"split": ..., "options": {...}}.
        sections: "every", "single", "fused", "long", "pretrained" -> settings, the table's upon the protocol's.
        rows: in the order shown.
    """

    name: str
    title: str
    scale: str
    tasks: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    judged_on: Settings
    sections: Mapping[str, Settings]
    rows: tuple[Row, ...]

    def settings(self, section: str) -> dict[str, Any]:
        """What networks of a section are trained with, before a row's own settings."""
        chain = {"single": ("every", "single"), "fused": ("every", "fused")}
        return merged(*(self.sections[part] for part in chain.get(section, ("every", "single", section))))


def read_table(path: Path, scale: str) -> TableSpec:
    """A table at one scale.

    Raises:
        ConfigError: a file is missing or is no such YAML, or the table has no such scale.
    """
    values = _yaml(path, ("title", "protocol", "settings", "scales", "rows"))
    protocol_path = path.with_name(f"{Path(str(values['protocol'])).name}.yaml")
    protocol = _yaml(protocol_path, ("tasks", "columns", "scales"))
    scales, rows = _mapping(protocol_path, "scales", protocol["scales"]), _mapping(path, "rows", values["rows"])
    if scale not in scales:
        raise unknown_choice(f"scale of {path.stem}", scale, scales)
    if not rows:
        raise ConfigError(f"{path}: rows: expected at least one; found none.")
    shared = dict(_mapping(protocol_path, f"scales.{scale}", scales[scale]))
    own = _mapping(path, f"scales.{scale}", _mapping(path, "scales", values.get("scales")).get(scale))
    judged_on = _judged_on(protocol_path, shared.pop("judged_on", {"split": "test"}))
    for where, settings in ((protocol_path, shared), (path, own)):
        for found, section in settings.items():
            if found not in SECTIONS:
                raise unknown_choice(f"{where}, {scale}: section", str(found), SECTIONS)
            _mapping(where, f"scales.{scale}.{found}", section)
    sections = {section: merged(shared.get(section) or {}, own.get(section) or {}) for section in SECTIONS}
    settings = _mapping(path, "settings", values.get("settings"))
    sections["every"] = merged(shared.get("every") or {}, settings, own.get("every") or {})
    tasks = _names(protocol_path, "tasks", protocol["tasks"])
    chosen = _mapping(protocol_path, "columns", protocol["columns"])
    columns = tuple(
        (task, metric) for task in chosen for metric in _names(protocol_path, f"columns.{task}", chosen[task])
    )
    for task in chosen:
        if task not in tasks:
            raise unknown_choice(f"{protocol_path}: columns: task", str(task), tasks)
    if not columns:
        raise ConfigError(f"{protocol_path}: columns: expected metrics, as in {{normals: [mean_angle]}}; found none.")
    return TableSpec(
        name=path.stem,
        title=str(values["title"]),
        scale=scale,
        tasks=tasks,
        columns=columns,
        judged_on=judged_on,
        sections=sections,
        rows=tuple(
            _row(path, str(name), _mapping(path, f"rows.{name}", row), len(columns)) for name, row in rows.items()
        ),
    )


def merged(*settings: Settings) -> dict[str, Any]:
    """Later settings upon earlier ones, mapping by mapping. None removes what was set before."""
    result: dict[str, Any] = {}
    for layer in settings:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                before = result.get(key)
                result[key] = merged(before if isinstance(before, Mapping) else {}, value)
            elif value is None:
                result.pop(key, None)
            else:
                result[key] = value
    return result


def _row(path: Path, name: str, values: Settings, columns: int) -> Row:
    for key in values:
        if key not in Row.__dataclass_fields__ or key == "name":
            raise unknown_choice(f"{path}, {name}: setting", key, list(Row.__dataclass_fields__)[1:])
    network = _mapping(path, f"rows.{name}.settings", values.get("settings")).get("network")
    network = _mapping(path, f"rows.{name}.settings.network", network)
    paper = values.get("paper") or ()
    if not isinstance(paper, (list, tuple)) or not all(type(number) in (int, float) for number in paper):
        raise ConfigError(f"{path}, {name}: paper: expected numbers, as in [13.9, 36.2]; found {paper!r}.")
    row = Row(name, **{**values, "paper": tuple(paper), "settings": values.get("settings") or {}})
    for setting, value, known in (("stage", row.stage, STAGES), ("start", row.start, STARTS)):
        if value not in known:
            raise unknown_choice(f"{path}, {name}: {setting}", str(value), known)
    if not isinstance(row.each, bool):
        raise ConfigError(f"{path}, {name}: each: expected true or false; found {row.each!r}.")
    if row.each and row.start == "pretrained":
        raise ConfigError(
            f"{path}, {name}: each: true starts from single or random; start: pretrained is for all tasks."
        )
    if not row.each and row.start == "single" and network.get("fusion") == "shared":
        raise ConfigError(f"{path}, {name}: a shared trunk cannot start from several networks. Set start: random.")
    if len(row.paper) not in (0, columns):
        raise ConfigError(f"{path}, {name}: the paper has {len(row.paper)} numbers, the table {columns} columns.")
    return row


def _mapping(path: Path, where: str, value: Any) -> dict[str, Any]:
    """Settings as they stand in YAML, where an empty section is None."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {where}: expected settings, as in `name: value`; found {value!r}.")
    return value


def _names(path: Path, where: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{path}: {where}: expected names, as in [mIoU]; found {value!r}.")
    return tuple(value)


def _judged_on(path: Path, value: Any) -> dict[str, Any]:
    judged = _mapping(path, "judged_on", value)
    for found in judged:
        if found not in ("split", "options"):
            raise unknown_choice(f"{path}: judged_on: setting", str(found), ("split", "options"))
    if not isinstance(judged.get("split"), str):
        raise ConfigError(f"{path}: judged_on: expected a split, as in {{split: test}}; found {judged!r}.")
    _mapping(path, "judged_on.options", judged.get("options"))
    return {key: value for key, value in judged.items() if value is not None}


def _yaml(path: Path, known: tuple[str, ...]) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Tables are in examples/tables/.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is not YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a table's settings; found {values!r}.")
    for key in values:
        if key not in known:
            raise unknown_choice(f"{path}: setting", str(key), known)
    for key in known:
        if key not in values and key not in ("settings", "scales"):
            raise ConfigError(f"{path}: {key!r} is missing.")
    return values
