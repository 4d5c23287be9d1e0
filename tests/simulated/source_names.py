"""What our source asks of TensorRT and CUDA, read from its syntax tree: also branches that no test runs.

Which class an expression has follows from what we call our variables and what the API says is returned.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulated.api import Api
from simulated.signatures import Signature

MODULES = ("trt", "_trt")
CUDA_MODULES = ("cudart", "_cudart")
# What we call objects of TensorRT in `engines/trt*.py`.
VARIABLES = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "layer": "ILayer",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "runtime": "Runtime",
    "shapes": "IOptimizationProfile",
    "tensor": "ITensor",
}


@dataclass(frozen=True)
class Use:
    """One name that a file uses.

    Attributes:
        name: "BuilderFlag.FP16", "IBuilderConfig.set_flag", "cudaMalloc".
        place: "trt_build.py:120".
        arguments: how many a call gives by position, and the names of the others; None where nothing is called.
    """

    name: str
    place: str
    arguments: tuple[int, tuple[str, ...]] | None


def tensorrt_uses(files: Iterable[Path], apis: Sequence[Api]) -> list[Use]:
    """Every use of a name of TensorRT; `apis` tell what is returned, the first that knows."""
    return [use for file in files for use in _uses(file, lambda node: _tensorrt_name(node, apis))]


def cuda_uses(files: Iterable[Path], modules: Sequence[str] = CUDA_MODULES) -> list[Use]:
    """Every use of a name of `cuda.bindings.runtime`, by what the files call it."""
    return [use for file in files for use in _uses(file, lambda node: _below(node, modules))]


def accepts(overloads: Iterable[Signature], use: Use) -> bool:
    """Whether one of them takes that many arguments, by those names."""
    if use.arguments is None:
        return True
    count, names = use.arguments
    return any(overload.bind([None] * count, dict.fromkeys(names)) is not None for overload in overloads)


def _uses(file: Path, name_of: Callable[[ast.Attribute], str | None]) -> Iterator[Use]:
    tree = ast.parse(file.read_text())
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := name_of(node)):
            call = calls.get(id(node))
            given = (len(call.args), tuple(word.arg or "" for word in call.keywords)) if call else None
            yield Use(name, f"{file.name}:{node.lineno}", None if name.endswith("__") else given)


def _below(node: ast.expr, modules: Sequence[str]) -> str | None:
    """`trt.BuilderFlag.FP16`, `self._trt.BuilderFlag.FP16` -> "BuilderFlag.FP16"; None of anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        if node.attr in modules:
            return ".".join(reversed(parts)) or None
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed(parts)) if parts and isinstance(node, ast.Name) and node.id in modules else None


def _tensorrt_name(node: ast.Attribute, apis: Sequence[Api]) -> str | None:
    if name := _below(node, MODULES):
        return name
    owner = _class_of(node.value, apis)
    return f"{owner}.{node.attr}" if owner else None


def _class_of(node: ast.expr, apis: Sequence[Api]) -> str | None:
    """The class of TensorRT that an expression has, as far as one can tell."""
    if isinstance(node, ast.Name):
        return VARIABLES.get(node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        made = _below(node.func, MODULES)
        if made is not None:
            return made if any(made in api.classes for api in apis) else None
        owner, part, name = _class_of(node.func.value, apis), "methods", node.func.attr
    elif isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return VARIABLES.get(node.attr.removeprefix("_"))
        owner, part, name = _class_of(node.value, apis), "properties", node.attr
    else:
        return None
    for api in apis:
        found = api.find(owner, part, name) if owner in api.classes else None
        if found is not None:
            getter = found.methods[name][0] if part == "methods" else found.properties[name].get
            return api.class_named(getter.returns) if getter else None
    return None
