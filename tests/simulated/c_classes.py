"""What a class in C can do and one in Python cannot: classes of TensorRT that need no implementation, or a buffer."""

from __future__ import annotations

from typing import Any


class Extents(list[int]):
    """What is behind a Dims."""

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other)  # type: ignore[call-overload]

    def __repr__(self) -> str:
        return repr(tuple(self))

    __str__ = __repr__


def _no_attribute(name: str) -> Any:
    raise AttributeError(f"'tensorrt.IHostMemory' object has no attribute '{name}'")


def _refused(self: Any, *args: Any) -> Any:
    raise TypeError("'tensorrt.IHostMemory' object is a buffer: it has no length, items or order of its own")


def _as_bytes(self: Any) -> bytes:
    return memoryview(self).tobytes()


# Only a class of C can offer a buffer before Python 3.12: bytes, with everything else of bytes taken away.
HOST_MEMORY: dict[str, Any] = {
    **dict.fromkeys(("__len__", "__getitem__", "__iter__", "__add__", "__mul__", "__contains__"), _refused),
    "__bytes__": _as_bytes,
    "__repr__": object.__repr__,
    "__str__": object.__str__,
    "__eq__": object.__eq__,
    "__hash__": object.__hash__,
    **{key: property(lambda self, key=key: _no_attribute(key)) for key in dir(bytes) if not key.startswith("_")},
}
