"""A training configuration from YAML and `key=value` words, and back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from nddr_deploy import optional
from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.training.config import TrainConfig


def read_config(path: str | Path, overrides: Iterable[str] = (), *, init: str | None = None) -> TrainConfig:
    """The configuration in a YAML file, changed by words such as `optimiser.lr=0.01` and `tasks=[depth,normals]`.

    Args:
        init: a checkpoint to start from. Where the settings name no network or no pre-processing, they are its own.

    Raises:
        ConfigError: no such file, no YAML, an unknown setting, or a value of another type.
        ModelFileError: `init` cannot be used.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}). Give a YAML file; examples are in examples/."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is not YAML ({' '.join(str(error).split())}).") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected settings, as in `steps: 1000`; found a {type(values).__name__}.")
    for word in overrides:
        values = _with_override(values, word)
    if init is not None:
        values = _with_override(values, f"start.checkpoint={json.dumps(init)}")
        values = {**settings_of_checkpoint(init), **values}
    return config_from_dict(values)


def settings_of_checkpoint(path: str) -> dict[str, Any]:
    """The settings that a network must keep when its training goes on: its own, and its pre-processing."""
    from nddr_deploy.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    return {"network": _plain(checkpoint.network.to_dict()), "preprocess": _plain(checkpoint.preprocess.to_dict())}


def config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """Check names and types of plain values and fill in the defaults.

    Raises:
        ConfigError: an unknown setting, or a value of another type.
    """
    _check_settings(values, TrainConfig, ())
    parser = optional.load("jsonargparse:ArgumentParser", extra="train")(exit_on_error=False)
    argument_error = optional.load("jsonargparse:ArgumentError", extra="train")
    parser.add_class_arguments(TrainConfig)
    try:
        parsed = parser.parse_object(deepcopy(_plain(values)), env=False)
    except argument_error as error:
        raise _wrong_value(error, values) from error
    return TrainConfig(**parser.instantiate(parsed).as_dict())


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain values (no tuples), as they stand in YAML and in a checkpoint."""
    values: dict[str, Any] = _plain(asdict(config))
    return values


def changed_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that are not the defaults, as plain values; options (`data.options`, ...) count as one setting."""
    return _changed(config, TrainConfig())


def _changed(config: Any, default: Any) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for field in fields(config):
        value, usual = getattr(config, field.name), getattr(default, field.name)
        if is_dataclass(value):
            inner = _changed(value, usual)
            if inner:
                changed[field.name] = inner
        elif _plain(value) != _plain(usual):
            changed[field.name] = _plain(value)
    return changed


def config_to_yaml(config: TrainConfig) -> str:
    """What `--print_config` prints: every setting, in the order of `TrainConfig`."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False, default_flow_style=None, allow_unicode=True)


def check_finite(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError where plain settings, or a list among them, hold a number that is infinite or NaN."""
    for key, value in settings.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                check_finite({f"{key}.{name}": inner for name, inner in item.items()})
            elif isinstance(item, float) and not math.isfinite(item):
                raise ConfigError(f"{key}: found {value!r}; expected finite numbers.")


def _with_override(values: dict[str, Any], word: str) -> dict[str, Any]:
    """A copy of `values` in which `a.b=value` is set."""
    key, equals, text = word.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{word!r} is no setting. Write key=value, as in optimiser.lr=0.01.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{word!r}: the value is not YAML ({' '.join(str(error).split())}).") from error
    *parents, name = key.split(".")
    changed = deepcopy(values)
    inner = changed
    for parent in parents:
        inner = inner.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{word!r}: {parent} is a single value, {inner!r}; it has no settings below it.")
    inner[name] = value
    return changed


def _check_settings(values: Any, kind: Any, path: tuple[str, ...]) -> None:
    """Every key of `values` must be a field of the dataclass `kind`, null only where it may be, and so on below it.

    jsonargparse takes null for any type.
    """
    if not is_dataclass(kind):
        return
    where = ".".join(path) or "the configuration"
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{where}: expected settings, as in `{where}: {{{fields(kind)[0].name}: ...}}`; found {values!r}."
        )
    hints = get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            raise unknown_choice(f"{where}: setting", str(key), [field.name for field in fields(kind)])
        below = (*path, str(key))
        if value is None and NoneType not in get_args(hints[key]) and not is_dataclass(hints[key]):
            raise ConfigError(f"{'.'.join(below)}: found nothing (null); expected {_in_words(hints[key])}.")
        _check_settings(value, hints[key], below)


def _wrong_value(error: Exception, values: Mapping[str, Any]) -> ConfigError:
    """jsonargparse's report, which lists every alternative that failed, as one sentence."""
    message = " ".join(str(error).split())
    found = re.search(r'[Kk]ey "([^"]+)"', message)
    kind: Any = TrainConfig
    value: Any = values
    for name in found.group(1).split(".") if found else ():
        if not (is_dataclass(kind) and isinstance(value, Mapping) and name in value):
            break
        kind, value = get_type_hints(kind)[name], value[name]
    if not found or kind is TrainConfig:
        return ConfigError(f"The configuration is wrong: {message}")
    return ConfigError(f"{found.group(1)}: found {value!r}; expected {_in_words(kind)}.")


def _in_words(kind: Any) -> str:
    """The type of a setting, for people: `tuple[int, int] | None` is "a list of 2 whole numbers or null"."""
    nouns = {int: "whole number", float: "number", str: "text"}
    if kind in nouns:
        return f"a {nouns[kind]}"
    if kind in (bool, NoneType):
        return "true or false" if kind is bool else "null"
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin in (Union, UnionType):
        return " or ".join(map(_in_words, parts))
    if is_dataclass(kind) or issubclass(origin, Mapping):
        each = "" if Any in parts or not parts else f", each value {_in_words(parts[1])}"
        return f"settings, as in `name: value`{each}"
    count = "" if Ellipsis in parts or origin is not tuple else f"{len(parts)} "
    return f"a list of {count}{nouns[parts[0]]}s"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
