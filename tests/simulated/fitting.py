"""Whether values fit the types of a signature as pybind11 decides it, and what an implementation then gets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simulated.signatures import REQUIRED, Signature

if TYPE_CHECKING:
    from simulated.checked import Double

INTEGERS = ("int", "typing.SupportsInt", "typing.SupportsIndex")
FLOATS = ("float", "typing.SupportsFloat")
BUFFERS = ("buffer", "typing_extensions.Buffer", "collections.abc.Buffer", "memoryview")
CAPSULES = ("capsule", "typing_extensions.CapsuleType", "types.CapsuleType")
SIMPLE = {"str": str, "bytes": bytes, "tuple": tuple, "list": list, "dict": dict, "slice": slice}
ABSTRACT = {"Iterable": Iterable, "Iterator": Iterator, "Sequence": Sequence}
LONGEST = 8  # of Dims


class Misfit(Exception):
    """A value is not what the signature says."""


def fit_call(
    double: Double, overloads: Sequence[Signature], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Signature, list[Any]]:
    """The first overload that takes these arguments, and they, in its order; what was left out at the end stays out.

    Raises:
        TypeError: none does, with the words of pybind11.
    """
    for signature in overloads:
        bound = signature.bind(args, kwargs)
        if bound is None:
            continue
        try:
            if signature.anything:
                return signature, bound
            given = [
                REQUIRED if value is REQUIRED else fit(double, value, parameter.type, none=parameter.default is None)
                for value, parameter in zip(bound, signature.parameters, strict=True)
            ]
        except Misfit:
            continue
        while given and given[-1] is REQUIRED:
            given.pop()
        defaults = [parameter.default for parameter in signature.parameters]
        return signature, [
            _default(double, default) if value is REQUIRED else value
            for value, default in zip(given, defaults, strict=False)
        ]
    name = overloads[0].name
    kind = "constructor" if name == "__init__" else "function"
    takes = "; ".join(
        f"({', '.join(f'{item.name}: {item.type}' for item in overload.parameters)})" for overload in overloads
    )
    invoked = ", ".join([*(repr(value) for value in args), *(f"{key}={value!r}" for key, value in kwargs.items())])
    raise TypeError(
        f"{name}(): incompatible {kind} arguments. TensorRT {double.api.version} takes: {takes}. "
        f"Invoked with: {invoked}"
    )


def fit(double: Double, value: Any, kind: str, *, none: bool = False) -> Any:
    """A value as an implementation gets it.

    Args:
        double: whose classes are meant.
        value: what a user passed.
        kind: of the parameter, as written.
        none: whether None will do.

    Raises:
        Misfit: the type is another one.
    """
    if value is None and (none or kind in ("object", "None", "bool", *CAPSULES)):
        return None
    if value is None:
        raise Misfit
    if (item := re.fullmatch(r"(?:List|list|Sequence|collections\.abc\.Sequence)\[(.*)\]", kind)) is not None:
        if isinstance(value, str | bytes) or not _is_sequence(value):
            raise Misfit
        return [fit(double, part, item[1]) for part in value]
    if kind in INTEGERS:
        return _integer(value)
    if kind in FLOATS:
        if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
            raise Misfit
        return float(value)
    if kind == "bool":
        if not (isinstance(value, bool) or hasattr(value, "__bool__")):
            raise Misfit
        return bool(value)
    if kind in BUFFERS:
        try:
            memoryview(value)
        except TypeError:
            raise Misfit from None
        return double.unwrap(value)
    if kind in CAPSULES:
        if not double.is_ours(value):
            raise Misfit
        return double.unwrap(value)
    if kind in SIMPLE:
        if not isinstance(value, SIMPLE[kind]) and not (kind == "str" and isinstance(value, bytes)):
            raise Misfit
        return value
    if (name := double.api.class_named(kind)) is not None:
        return _object(double, value, name)
    outer = re.match(r"(?:collections\.abc\.)?(\w+)", kind)
    if outer and outer[1] in ABSTRACT and not isinstance(value, ABSTRACT[outer[1]]):
        raise Misfit
    if kind in ("collections.abc.Callable", "function") and not callable(value):
        raise Misfit
    return value  # `object`, or a type that only C++ can spell


def _object(double: Double, value: Any, name: str) -> Any:
    if name in double.api.enums:
        if type(value) is not double.api.enums[name]:
            raise Misfit
        return value
    if isinstance(value, double.classes[name]):
        double.check_made(value)
        return double.unwrap(value)
    if name.startswith("Dims") and name != "DimsExprs" and _is_sequence(value) and not isinstance(value, str | bytes):
        extents = tuple(_integer(extent) for extent in value)
        if len(extents) <= LONGEST:
            return extents
    if name == "Weights" and type(value).__name__ == "ndarray":
        return value
    raise Misfit


def _is_sequence(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, Mapping)


def _integer(value: Any) -> int:
    """What pybind11 takes for an integer: anything that can become one, but no float, and no text."""
    if isinstance(value, float | str | bytes) or not (hasattr(value, "__index__") or hasattr(value, "__int__")):
        raise Misfit
    if type(value).__name__.startswith(("float", "ndarray")):
        raise Misfit
    return int(value)


def _default(double: Double, default: Any) -> Any:
    """Of an enum, the text is `<Severity.WARNING: 2>`."""
    named = re.fullmatch(r"<(\w+)\.(\w+): -?\d+>", default) if isinstance(default, str) else None
    if named is None:
        return default
    owner = next(name for name in double.api.enums if name.rpartition(".")[2] == named[1])
    return double.api.member(owner, named[2])
