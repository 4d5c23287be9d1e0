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
        start: single                                           single (the single-task networks), pretrained, or random
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
    if scale not in protocol["scales"]:
        raise unknown_choice(f"scale of {path.stem}", scale, protocol["scales"])
    shared, own = dict(protocol["scales"][scale] or {}), (values.get("scales") or {}).get(scale) or {}
    judged_on = shared.pop("judged_on", {"split": "test"})
    for found in (*shared, *own):
        if found not in SECTIONS:
            raise unknown_choice(f"{path}, {scale}: section", found, SECTIONS)
    sections = {section: merged(shared.get(section) or {}, own.get(section) or {}) for section in SECTIONS}
    sections["every"] = merged(shared.get("every") or {}, values.get("settings") or {}, own.get("every") or {})
    columns = tuple((task, metric) for task, metrics in protocol["columns"].items() for metric in metrics)
    return TableSpec(
        name=path.stem,
        title=str(values["title"]),
        scale=scale,
        tasks=tuple(protocol["tasks"]),
        columns=columns,
        judged_on=judged_on,
        sections=sections,
        rows=tuple(_row(path, name, row or {}, len(columns)) for name, row in values["rows"].items()),
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
    row = Row(name, **{**values, "paper": tuple(values.get("paper") or ())})
    for setting, value, known in (("stage", row.stage, STAGES), ("start", row.start, STARTS)):
        if value not in known:
            raise unknown_choice(f"{path}, {name}: {setting}", value, known)
    if len(row.paper) not in (0, columns):
        raise ConfigError(f"{path}, {name}: the paper has {len(row.paper)} numbers, the table {columns} columns.")
    return row


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
