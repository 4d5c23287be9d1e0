"""Print what the real module of CUDA's runtime offers, as JSON: run by `bindings.ask` in a process of its own."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

from cuda.bindings import __version__
from cuda.bindings import runtime as cudart


def describe_function(function: Any) -> dict[str, Any]:
    """Parameters with the types of the docstring's first line, and the documented results.

    The first line reads `cudaMemcpyAsync(dst, src, size_t count, kind: cudaMemcpyKind, stream)`.
    """
    lines = (function.__doc__ or "").splitlines()
    typed = dict.fromkeys(inspect.signature(function).parameters, "")
    for part in re.sub(r"^\w+\(|\)$", "", lines[0]).split(",") if lines else []:
        words = part.replace(":", " ").split()
        if len(words) >= 2:
            name, kind = (words[0], words[1]) if ":" in part else (words[-1], " ".join(words[:-1]))
            if name in typed:
                typed[name] = kind
    start = lines.index("Returns") + 2 if "Returns" in lines else len(lines)
    end = next((at for at in range(start, len(lines) - 1) if lines[at + 1].startswith("---")), len(lines))
    results = [
        re.sub(r":py:obj:`~\.?|`", "", line.partition(" : ")[2] or line).strip()
        for line in lines[start:end]
        if line and not line.startswith(" ")
    ]
    required = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty
    ]
    return {"parameters": typed, "required": required, "results": results}


def main() -> None:
    public = {name: value for name, value in vars(cudart).items() if not name.startswith("_")}
    enums = {name: value for name, value in public.items() if inspect.isclass(value) and hasattr(value, "__members__")}
    result = {
        "version": __version__,
        "functions": {
            name: describe_function(value)
            for name, value in public.items()
            if type(value).__name__ == "cython_function_or_method"
        },
        "enums": {name: {key: int(item) for key, item in kind.__members__.items()} for name, kind in enums.items()},
        "integers": {name: value for name, value in public.items() if type(value) is int},
        "classes": {
            name: [key for key in dir(value) if not key.startswith("_") or key == "__int__"]
            for name, value in public.items()
            if inspect.isclass(value) and name not in enums and value.__module__.startswith("cuda.")
        },
    }
    print(json.dumps(result))


main()
