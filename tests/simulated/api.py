"""The true API of TensorRT and of CUDA's runtime, version by version, as data; and doubles that are held to it.

    api = true_api("11.4.0.106")                   what the real module says about itself; "11" is enough
    trt = checked(api, implementation)             for sys.modules["tensorrt"]: raises what the real one would raise
    api.used, api.missed                           {"Builder.create_network", ...}: what was used; what was not there

What an implementation is: see `checked.py`. The data are made once for each installation, by a process that imports
the real module, and kept beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from simulated import bindings
from simulated.bindings import CUDA_VERSIONS, VERSIONS, why_absent
from simulated.checked import checked
from simulated.checked_cuda import checked_cuda
from simulated.enums import Member, make_enum
from simulated.signatures import Signature, parse

__all__ = [
    "CUDA_VERSIONS",
    "VERSIONS",
    "Api",
    "Class",
    "CudaApi",
    "checked",
    "checked_cuda",
    "true_api",
    "true_cuda_api",
    "why_absent",
]


@dataclass(frozen=True)
class Property:
    """Attributes:
    get: of the getter; None where it can only be set.
    set: of the setter; None where it can only be read.
    """

    get: Signature | None
    set: Signature | None


@dataclass(frozen=True)
class Class:
    """Attributes:
    name: as in the module, `"ILogger.Severity"` for a nested one.
    bases: names of its bases.
    methods: name -> overloads; `__init__` is missing where users cannot make one.
    static: names of methods without `self`.
    properties: name -> accessors.
    constants: name -> (class, member), as `ILogger.ERROR`; the member is empty for an alias of a class.
    members: of an enum, name -> number; else empty.
    """

    name: str
    bases: tuple[str, ...]
    methods: dict[str, tuple[Signature, ...]]
    static: frozenset[str]
    properties: dict[str, Property]
    constants: dict[str, tuple[str, str]]
    members: dict[str, int]


@dataclass
class Api:
    """What one version of TensorRT offers.

    Attributes:
        version: "11.4.0.106".
        classes: name -> class; enums among them.
        functions: name -> overloads.
        values: name in the module -> (enum, member), as `float32`.
        used: dotted names that were used through a checked double.
        missed: dotted names that were asked for and do not exist.
    """

    version: str
    classes: dict[str, Class]
    functions: dict[str, tuple[Signature, ...]]
    values: dict[str, tuple[str, str]]
    used: set[str] = field(default_factory=set)
    missed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.enums = {name: make_enum(self, kind) for name, kind in self.classes.items() if kind.members}

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def enum(self, name: str) -> Any:
        """The members of an enum, `api.enum("DataType").FLOAT`, for an implementation: not recorded as used."""
        return SimpleNamespace(**self.enums[name]._members)

    def member(self, enum: str, name: str) -> Member:
        return self.enums[enum]._members[name]

    def has(self, dotted: str) -> bool:
        """Whether `"BuilderFlag.FP16"`, `"Builder.create_network"`, `"Logger.Severity.ERROR"` or `"volume"` exists."""
        if dotted in self.classes or dotted in self.functions or dotted in self.values or dotted == "__version__":
            return True
        owner, _, name = dotted.rpartition(".")
        if owner not in self.classes:
            outer, _, alias = owner.rpartition(".")
            kind = self.find(outer, "constants", alias) if outer in self.classes else None
            return kind is not None and self.has(f"{kind.constants[alias][0]}.{name}")
        parts = ("methods", "properties", "constants", "members")
        return any(self.find(owner, part, name) is not None for part in parts)

    def overloads(self, dotted: str) -> tuple[Signature, ...]:
        """The signatures of a method, a function, or a class that can be made; none of anything else."""
        if dotted in self.functions:
            return self.functions[dotted]
        owner, name = (dotted, "__init__") if dotted in self.classes else dotted.rpartition(".")[::2]
        kind = self.find(owner, "methods", name) if owner in self.classes else None
        return kind.methods[name] if kind else ()

    def find(self, name: str, part: str, key: str) -> Class | None:
        """Which class, of the named one and its bases, has `key` among its methods, properties, constants, members."""
        kind = self.classes[name]
        if key in getattr(kind, part):
            return kind
        return next((found for base in kind.bases if (found := self.find(base, part, key)) is not None), None)

    def class_named(self, written: str) -> str | None:
        """The class that a signature means; C++'s names differ by an `I` and by namespaces."""
        last = written.rpartition(".")[2]
        return next((name for name in (written, last, last.removeprefix("I")) if name in self.classes), None)


@dataclass
class CudaApi:
    """What one version of `cuda.bindings.runtime` offers.

    Attributes:
        version: "13.5.0".
        functions: name -> {"parameters": {name: type}, "required": [...], "results": [types]}.
        enums: name -> {member: number}.
        integers: name -> number.
        classes: name -> names of its attributes; `__int__` among them.
        used, missed: as in `Api`.
    """

    version: str
    functions: dict[str, dict[str, Any]]
    enums: dict[str, dict[str, int]]
    integers: dict[str, int]
    classes: dict[str, list[str]]
    used: set[str] = field(default_factory=set)
    missed: set[str] = field(default_factory=set)

    def has(self, dotted: str) -> bool:
        name, _, member = dotted.partition(".")
        if member:
            return member in self.enums.get(name, ()) or member in self.classes.get(name, ())
        return any(name in part for part in (self.functions, self.enums, self.integers, self.classes))


def true_api(version: str) -> Api:
    """A version of TensorRT; with nothing used yet.

    Raises:
        RuntimeError: it is not installed; a test asks `why_absent` first.
    """
    return Api(*_parsed_api(bindings.find(version).version))


def true_cuda_api(version: str) -> CudaApi:
    """A version of cuda-bindings, as `true_api`."""
    return CudaApi(**_described(version, "describe_cuda.py"))


@cache
def _parsed_api(version: str) -> tuple[Any, ...]:
    """What an Api begins with; none of it is changed later."""
    data = _described(version, "describe_tensorrt.py")
    classes = {name: _class(name, item) for name, item in data["classes"].items()}
    functions = {name: _parsed(lines, method=False) for name, lines in data["functions"].items()}
    values = {name: (enum, member) for name, (enum, member) in data["values"].items()}
    return data["version"], classes, functions, values


def _class(name: str, data: dict[str, Any]) -> Class:
    static = frozenset(data["static"])
    return Class(
        name,
        tuple(data["bases"]),
        {key: _parsed(lines, method=key not in static) for key, lines in data["methods"].items()},
        static,
        {
            key: Property(*(parse(item[part], method=True) if item[part] else None for part in ("get", "set")))
            for key, item in data["properties"].items()
        },
        {key: (owner, member) for key, (owner, member) in data["constants"].items()},
        data.get("members", {}),
    )


def _parsed(lines: list[str], *, method: bool) -> tuple[Signature, ...]:
    return tuple(parse(line, method=method) for line in lines)


def _described(version: str, program: str) -> dict[str, Any]:
    """What the program says of a version; kept until the program changes."""
    if reason := why_absent(version):
        raise RuntimeError(f"{version}: {reason}")
    source = (Path(__file__).parent / program).read_text()
    kept = bindings.folder(version) / f"api-{hashlib.sha256(source.encode()).hexdigest()[:12]}.json"
    if not kept.is_file():
        answer = bindings.ask(version, source)
        partial = kept.with_suffix(f".{os.getpid()}")  # test workers may do it at once
        partial.write_text(re.sub(r"\A[^{]*", "", answer))
        partial.replace(kept)
    found: dict[str, Any] = json.loads(kept.read_text())
    return found
