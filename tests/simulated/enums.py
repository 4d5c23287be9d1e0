"""Enums as pybind11 makes them: they compare with their own kind only, and `|` exists for few."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulated.api import Api, Class

OPERATORS = {
    "__lt__": lambda a, b: a < b,
    "__gt__": lambda a, b: a > b,
    "__le__": lambda a, b: a <= b,
    "__ge__": lambda a, b: a >= b,
    "__and__": lambda a, b: a & b,
    "__or__": lambda a, b: a | b,
    "__xor__": lambda a, b: a ^ b,
}


class EnumType(type):
    """Members are found here, so that each use is recorded; a name that a version lacks raises."""

    _api: Api
    _path: str
    _members: dict[str, Member]

    def __getattr__(cls, name: str) -> Member:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in cls._members:
            cls._api.missed.add(f"{cls._path}.{name}")
            raise AttributeError(
                f"type object 'tensorrt.{cls._path}' has no attribute '{name}' (TensorRT {cls._api.version})"
            )
        cls._api.used.add(f"{cls._path}.{name}")
        return cls._members[name]

    def __setattr__(cls, name: str, value: object) -> None:
        raise AttributeError(f"'{name}' of an enum cannot be set")

    @property
    def __members__(cls) -> dict[str, Member]:
        return dict(cls._members)


class Member:
    """One member of an enum.

    Attributes:
        name, value: as in TensorRT.
    """

    __slots__ = ("name", "value")

    def __int__(self) -> int:
        return self.value

    def __index__(self) -> int:
        return self.value

    def __hash__(self) -> int:
        return self.value

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.value == other.value  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self.name}: {self.value}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"property '{name}' of '{type(self).__name__}' object has no setter")


def make_enum(api: Api, kind: Class) -> EnumType:
    """The enum with the members, numbers and operators that a version has."""

    def operator(name: str) -> Any:
        def compare(self: Member, other: object) -> Any:
            known = type(self) is type(other) or (name in ("__and__", "__or__", "__xor__") and isinstance(other, int))
            return OPERATORS[name](self.value, int(other)) if known else NotImplemented  # type: ignore[call-overload]

        return compare

    def find(cls: Any, value: int) -> Member:
        found = next((member for member in members.values() if member.value == int(value)), None)
        return found if found is not None else _member(made, "???", int(value))

    space: dict[str, Any] = {name: operator(name) for name in OPERATORS if name in kind.methods}
    members: dict[str, Member] = {}
    space.update(__slots__=(), _api=api, _path=kind.name, _members=members, __new__=find)
    made = EnumType(kind.name.rpartition(".")[2], (Member,), space)
    for name, number in kind.members.items():
        members[name] = _member(made, name, number)
    return made


def _member(made: EnumType, name: str, number: int) -> Member:
    member: Member = object.__new__(made)
    object.__setattr__(member, "name", name)
    object.__setattr__(member, "value", number)
    return member
