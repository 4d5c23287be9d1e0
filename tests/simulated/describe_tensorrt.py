"""Print what the real module of TensorRT offers, as JSON: run by `bindings.ask` in a process of its own.

pybind11 writes every signature into the docstring; what is a property, an enum or a nested class the objects say.
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import tensorrt_bindings as trt

BINDINGS = trt.tensorrt


def is_class(value: object) -> bool:
    return inspect.isclass(value) and value.__module__ == BINDINGS.__name__


def signatures(name: str, function: Any) -> list[str]:
    """The lines of a docstring that pybind11 wrote; of a function in Python its own signature."""
    if inspect.isfunction(function):
        return [f"{name}{inspect.signature(function)}"]
    lines = (function.__doc__ or "").strip().splitlines()
    overloads = [line for line in lines if re.match(rf"\d+\. {re.escape(name)}\(", line)]
    if overloads:
        return [line.partition(". ")[2] for line in overloads]
    return [line for line in lines[:1] if line.startswith(f"{name}(")]


def accessor(function: Any) -> str | None:
    """The signature of a property's getter or setter: `(arg0: ...) -> int`."""
    if function is None:
        return None
    lines = (function.__doc__ or "").strip().splitlines()
    return lines[0][lines[0].index("(") :] if lines and "(" in lines[0] else "(*args) -> object"


def describe(name: str, kind: type, names: dict[int, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"bases": [names[id(base)] for base in kind.__bases__ if id(base) in names]}
    methods, properties, constants, static = {}, {}, {}, []
    members = dict(getattr(kind, "__members__", {}))
    for key, value in vars(kind).items():
        if key in members or key.startswith(("__pybind11", "_pybind11", "__entries", "__members")):
            continue
        if isinstance(value, property):
            properties[key] = {"get": accessor(value.fget), "set": accessor(value.fset)}
        elif is_class(value):
            constants[key] = [names[id(value)], ""]
        elif id(type(value)) in names:
            constants[key] = [names[id(type(value))], value.name]
        elif type(value).__name__ in ("instancemethod", "staticmethod", "function"):
            lines = signatures(key, value if inspect.isfunction(value) else getattr(kind, key))
            methods[key] = lines or [f"{key}(self: object, *args, **kwargs) -> object"]
            static += [key] if isinstance(value, staticmethod) else []
    found.update(methods=methods, properties=properties, constants=constants, static=static)
    if members:
        found["members"] = {key: int(value) for key, value in members.items()}
    return found


def main() -> None:
    classes = {name: value for name, value in vars(trt).items() if is_class(value)}
    names = {id(value): name for name, value in classes.items()}
    for outer, value in list(classes.items()):
        for inner, nested in vars(value).items():
            if is_class(nested) and id(nested) not in names:
                names[id(nested)] = f"{outer}.{inner}"
                classes[f"{outer}.{inner}"] = nested
    public = {name: value for name, value in vars(trt).items() if not name.startswith("_") and not is_class(value)}
    result = {
        "version": trt.__version__,
        "classes": {name: describe(name, value, names) for name, value in classes.items()},
        "functions": {name: signatures(name, value) for name, value in public.items() if inspect.isroutine(value)},
        "values": {
            name: [names[id(type(value))], value.name] for name, value in public.items() if id(type(value)) in names
        },
    }
    print(json.dumps(result))


main()
