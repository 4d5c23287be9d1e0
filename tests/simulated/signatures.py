"""Signatures as pybind11 writes them: parsed, and held against the arguments of a call.

set_shape(self: tensorrt_bindings.tensorrt.IOptimizationProfile, input: str, min: ...Dims, opt: ...Dims) -> None
parse(self: ..., model: typing_extensions.Buffer, path: str = None) -> bool
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REQUIRED = object()
PREFIX = "tensorrt_bindings.tensorrt."


@dataclass(frozen=True)
class Parameter:
    """Attributes:
    name: for keywords.
    type: as written, without the module's name: "int", "typing.SupportsInt", "BuilderFlag", "List[Dims]".
    default: REQUIRED, a value, or, of an enum, its text: "<Severity.WARNING: 2>".
    positional: it cannot be given by its name.
    """

    name: str
    type: str
    default: Any = REQUIRED
    positional: bool = False


@dataclass(frozen=True)
class Signature:
    """One way to call a function, without `self`.

    Attributes:
        name: of the function; empty for a property's getter or setter.
        parameters: in their order.
        returns: type of the result, as `Parameter.type`.
        anything: it takes any further arguments, too.
    """

    name: str
    parameters: tuple[Parameter, ...]
    returns: str
    anything: bool = False

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any] | None:
        """Arguments in the order of the parameters, REQUIRED where one was left out; None where they do not fit."""
        if self.anything:
            return [*args, *kwargs.values()]
        if len(args) > len(self.parameters):
            return None
        rest = dict(kwargs)
        bound = list(args)
        for parameter in self.parameters[len(args) :]:
            if parameter.name in rest and not parameter.positional:
                bound.append(rest.pop(parameter.name))
            elif parameter.default is REQUIRED:
                return None
            else:
                bound.append(REQUIRED)
        return None if rest else bound


def parse(text: str, *, method: bool) -> Signature:
    """Parse one line.

    Args:
        text: `name(parameters) -> type`, or without the name.
        method: the first parameter is `self`, whatever it is called, and is left out.

    Raises:
        ValueError: it is not a signature.
    """
    start = text.index("(")
    end = _closing(text, start)
    returns = re.sub(r"^\s*->\s*", "", text[end + 1 :].strip()).rstrip(":") or "object"
    parts = list(_split(text[start + 1 : end]))
    anything = any(part.startswith("*") and len(part) > 1 for part in parts)
    slash = parts.index("/") if "/" in parts else 0
    found = [
        _parameter(part, positional=count < slash)
        for count, part in enumerate(parts)
        if part != "/" and not part.startswith("*")
    ]
    return Signature(text[:start], tuple(found[1:] if method else found), _plain(returns), anything)


def _parameter(text: str, *, positional: bool) -> Parameter:
    name, colon, rest = text.partition(":")
    if not colon:
        name, _, rest = text.partition("=")
        return Parameter(name.strip(), "object", None if rest else REQUIRED, positional)
    kind, equals, default = _partition_default(rest)
    value: Any = REQUIRED
    if equals:
        try:
            value = literal_eval(default)
        except (ValueError, SyntaxError):
            value = default  # an enum's member, or an object that only C++ can spell
    return Parameter(name.strip(), _plain(kind), value, positional)


def _partition_default(text: str) -> tuple[str, bool, str]:
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "=" and depth == 0:
            return text[:index].strip(), True, text[index + 1 :].strip()
    return text.strip(), False, ""


def _plain(kind: str) -> str:
    """Without the module's name, and C++'s spelling of a name as Python's."""
    kind = kind.strip().replace(PREFIX, "")
    return re.sub(r"\bnv(?:infer1|onnxparser|uffparser|caffeparser1)(?:::\w+)*::", _namespace, kind)


def _namespace(match: re.Match[str]) -> str:
    """`nvinfer1::ILogger::` -> `ILogger.`"""
    inner = match.group().split("::")[1:-1]
    return "".join(f"{name}." for name in inner)


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes."""
    depth, quote = 0, ""
    for index in range(start, len(text)):
        letter = text[index]
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
            if depth == 0:
                return index
    raise ValueError(f"no closing bracket: {text}")


def _split(text: str) -> Iterator[str]:
    """The parts between commas that are in no brackets."""
    depth, part = 0, ""
    for index, letter in enumerate(text):
        arrow = letter == ">" and text[index - 1 : index] == "-"
        depth += (letter in "([{<") - (letter in ")]}>" and not arrow)
        if letter == "," and depth == 0:
            yield part.strip()
            part = ""
        else:
            part += letter
    if part.strip():
        yield part.strip()
