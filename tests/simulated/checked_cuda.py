"""A module like `cuda.bindings.runtime` over a plain implementation, as `checked.py` does for TensorRT.

Every function of CUDA returns a tuple: the error, then its results. The implementation has functions of the same
names, gets arguments by position (handles as what it returned for them, or as integers), and returns such a tuple, with
an error by its number or name; results of a call that failed become None, as the real ones. Handles that it returns
become objects of the true class, which is no integer.

The real functions take any handle for any other, fractions for sizes and numbers for enums: this double does not.
"""

from __future__ import annotations

import enum
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulated.api import CudaApi

# What a parameter of that name is a handle of.
HANDLES = {
    "stream": "cudaStream_t",
    "event": "cudaEvent_t",
    "start": "cudaEvent_t",
    "end": "cudaEvent_t",
    "graph": "cudaGraph_t",
    "graphExec": "cudaGraphExec_t",
}
INTEGERS = ("size_t", "int", "unsigned int", "unsigned long long", "long long", "unsigned long")


def checked_cuda(api: CudaApi, implementation: Any) -> types.ModuleType:
    """The module `cuda.bindings.runtime` of a version over an implementation; see above."""
    return CudaModule(api, implementation)


class Handle:
    """A stream, an event, a graph: what CUDA only tells a number of.

    Attributes:
        _value: what the implementation knows it as.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any = 0) -> None:
        self._value = value

    def __int__(self) -> int:
        return int(self._value)

    __index__ = __int__

    def getPtr(self) -> int:
        """Where the handle itself lies: not what it is."""
        return id(self)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and int(self) == int(other)  # type: ignore[call-overload]

    def __hash__(self) -> int:
        return int(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {int(self):#x}>"


class Struct:
    """A struct that CUDA fills, as cudaDeviceProp: with the true version's fields only."""

    def __init__(self, api: CudaApi, name: str, value: Any) -> None:
        self._api, self._name, self._value = api, name, value

    def __getattr__(self, field: str) -> Any:
        if field not in self._api.classes[self._name]:
            self._api.missed.add(f"{self._name}.{field}")
            raise AttributeError(
                f"'{self._name}' object has no attribute '{field}' (cuda-bindings {self._api.version})"
            )
        self._api.used.add(f"{self._name}.{field}")
        return getattr(self._value, field)


class CudaModule(types.ModuleType):
    """What `from cuda.bindings import runtime` gives."""

    def __init__(self, api: CudaApi, implementation: Any) -> None:
        super().__init__("cuda.bindings.runtime", f"A double of cuda-bindings {api.version}.")
        self._api, self._implementation = api, implementation
        self._enums = {name: enum.IntEnum(name, members) for name, members in api.enums.items() if members}
        self._handles = {
            name: type(name, (Handle,), {"__slots__": ()}) for name, names in api.classes.items() if "__int__" in names
        }

    def __getattr__(self, name: str) -> Any:
        api: CudaApi = self.__dict__["_api"]
        if name.startswith("__") or not api.has(name):
            api.missed.add(name)
            raise AttributeError(f"module 'cuda.bindings.runtime' has no attribute '{name}' ({api.version})")
        api.used.add(name)
        for kinds in (self._enums, self._handles, api.integers):
            if name in kinds:
                return kinds[name]
        if name in api.classes:
            raise NotImplementedError(f"the simulation has no {name}")
        return lambda *args, **kwargs: self._call(name, args, kwargs)

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        about = self._api.functions[name]
        names = list(about["parameters"])
        given = dict(zip(names, args, strict=False))
        missing = [key for key in about["required"] if key not in given and key not in kwargs]
        if len(args) > len(names) or missing or set(kwargs) - (set(names) - set(given)):
            raise TypeError(f"{name}() takes {names}; got {len(args)} values and {sorted(kwargs)}")
        given.update(kwargs)
        plain = [self._fit(name, key, given[key]) for key in names if key in given]
        function = getattr(self._implementation, name, None)
        if function is None:
            raise NotImplementedError(f"the simulation has no {name}")
        return self._wrap(name, function(*plain))

    def _fit(self, name: str, key: str, value: Any) -> Any:
        kind = self._api.functions[name]["parameters"][key]
        kind = kind.removeprefix("Optional[").removesuffix("]")
        if kind in self._enums and not isinstance(value, self._enums[kind]):
            raise TypeError(f"{name}(): {key} is a {kind}; got {value!r}")
        if kind in INTEGERS and not hasattr(value, "__index__"):
            raise TypeError(f"{name}(): an integer is required for {key}; got {value!r}")
        if isinstance(value, str | float):
            raise TypeError(f"{name}(): {key} cannot be {value!r}")
        wanted = HANDLES.get(key)
        if isinstance(value, Handle) and wanted and type(value).__name__ != wanted:
            raise TypeError(f"{name}(): {key} is a {wanted}; got {value!r}")
        return value._value if isinstance(value, Handle | Struct) else value

    def _wrap(self, name: str, result: Any) -> tuple[Any, ...]:
        kinds = self._api.functions[name]["results"]
        if not isinstance(result, tuple) or not result:
            raise TypeError(f"the simulation returned {result!r} from {name}; expected a tuple, the error first")
        errors = self._enums["cudaError_t"]
        error = errors[result[0]] if isinstance(result[0], str) else errors(int(result[0]))
        if error != 0:
            return (error, *(None for _ in kinds[1:]))
        if kinds and len(result) != len(kinds):
            raise TypeError(f"the simulation returned {result!r} from {name}; expected {kinds}")
        return (error, *(self._wrap_one(value, kind) for value, kind in zip(result[1:], kinds[1:], strict=False)))

    def _wrap_one(self, value: Any, kind: str) -> Any:
        if value is None or isinstance(value, Handle):
            return value
        if kind in self._handles:
            return self._handles[kind](value)
        if kind in self._enums:
            return self._enums[kind](value)
        return Struct(self._api, kind, value) if kind in self._api.classes else value
