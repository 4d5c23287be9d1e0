"""Options from a config, checked against the function that takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nddr_deploy.errors import ConfigError, unknown_choice

Made = TypeVar("Made")


def choose(setting: str, name: str, table: Mapping[str, Made]) -> Made:
    """The entry of a table, or a sentence that lists the entries."""
    if name not in table:
        raise unknown_choice(setting, name, table)
    return table[name]


def call(
    setting: str, function: Callable[..., Made], *arguments: Any, options: Mapping[str, Any], **known: Any
) -> Made:
    """`function(*arguments, **known, **options)`, where `options` come from a user.

    Options are the function's keyword-only parameters; a value must be of the kind of the parameter's default.

    Args:
        setting: what the options are called in a config, as in "backbone_options".

    Raises:
        ConfigError: an option that the function does not have, or a value that it cannot take.
    """
    defaults = {
        parameter.name: parameter.default
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in known
    }
    for name, value in options.items():
        if name not in defaults:
            if not defaults:
                raise ConfigError(f"{setting}: {name!r} was given, but there are no options here. Remove it.")
            raise unknown_choice(setting, name, defaults)
        _check_kind(f"{setting}.{name}", value, defaults[name])
    missing = [name for name, default in defaults.items() if default is inspect.Parameter.empty and name not in options]
    if missing:
        raise ConfigError(f"{setting}: {missing[0]!r} is needed. Add it.")
    try:
        return function(*arguments, **known, **options)
    except ValueError as error:  # PyTorch's layers refuse some values, such as a dropout of 2
        raise ConfigError(f"{setting}: {error}.") from error


def _check_kind(setting: str, value: Any, default: Any) -> None:
    if default is None or default is inspect.Parameter.empty:
        return
    kinds: dict[type, tuple[str, tuple[type, ...]]] = {
        bool: ("true or false", (bool,)),
        int: ("a whole number", (int,)),
        float: ("a number", (int, float)),
        str: ("a name", (str,)),
        tuple: ("a list", (tuple, list)),
    }
    words, accepted = kinds[type(default)]
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
        raise ConfigError(f"{setting}: expected {words}, as in {default!r}; got {value!r}.")
