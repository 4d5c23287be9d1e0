"""Unpickling with a list of a dozen names: what public checkpoints hold besides weights, and nothing that runs code.

The functions that a file may call are our own, made anew for each load, so that a file can neither reach the real
constructors nor leave anything behind in them.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
import torch

DTYPE = re.compile(r"[<>=|]?([fiu][1248]|b1)")
LATIN1 = ("latin1", "latin-1", "iso-8859-1")


def restricted_pickle() -> ModuleType:
    """A module for `torch.load(pickle_module=...)`."""
    allowed = _allowed()

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found = allowed.get(f"{module}.{name}")
            if found is None:
                raise pickle.UnpicklingError(f"{module}.{name:.100} is not read beside a config or numpy's numbers")
            return found

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    module = ModuleType("restricted_pickle")
    module.Unpickler, module.load = Unpickler, load  # type: ignore[attr-defined]
    return module


def _allowed() -> dict[str, Callable[..., Any]]:
    class Config(dict[str, Any]):
        """A yacs `CfgNode`: its settings; the attributes that yacs keeps beside them mean nothing here."""

        def __setstate__(self, state: Any) -> None:
            pass

    def make_set(items: Iterable[Any] = ()) -> set[Any]:
        return set(items)

    return {
        "collections.OrderedDict": OrderedDict,
        "torch._utils._rebuild_tensor_v2": _tensor_maker(),
        "numpy.dtype": _dtype_maker(),
        "numpy.core.multiarray.scalar": _scalar_maker(),
        "numpy._core.multiarray.scalar": _scalar_maker(),
        "_codecs.encode": _encoder(),
        "builtins.set": make_set,
        "__builtin__.set": make_set,
        "yacs.config.CfgNode": Config,
    }


def _tensor_maker() -> Callable[..., torch.Tensor]:
    def tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
        """A view of a storage, inside it and without repeated values; gradients and hooks are left out."""
        numbers = (offset, *size, *stride)
        if not all(type(number) is int and number >= 0 for number in numbers) or len(size) != len(stride):
            raise pickle.UnpicklingError("a tensor of a shape that is none")
        values = storage.nbytes() // storage.element_size()
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if prod(size) > values or (prod(size) and last >= values):
            raise pickle.UnpicklingError("a tensor that is larger than its values")
        made: torch.Tensor = torch._utils._rebuild_tensor_v2(  # type: ignore[no-untyped-call]
            storage, offset, size, stride, False, OrderedDict()
        )
        return made

    return tensor


class _Dtype:
    """A numpy dtype's letter and size; its state says the order of bytes."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]


def _dtype_maker() -> Callable[..., _Dtype]:
    def dtype(code: Any, *flags: Any) -> _Dtype:
        if not isinstance(code, str) or not DTYPE.fullmatch(code):
            kind = f"{code!r:.20}" if isinstance(code, str) else "of its own"
            raise pickle.UnpicklingError(f"a numpy type {kind}, which is no plain number")
        return _Dtype(code.lstrip("<>=|"))

    return dtype


def _scalar_maker() -> Callable[..., Any]:
    def scalar(dtype: Any, data: Any = b"") -> Any:
        """A numpy scalar as a Python number."""
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("a numpy scalar that is no plain number")
        kind = np.dtype(dtype.order + dtype.code)
        if len(data) != kind.itemsize:
            raise pickle.UnpicklingError("a numpy scalar of another size than its type")
        return np.frombuffer(data, kind)[0].item()

    return scalar


def _encoder() -> Callable[..., bytes]:
    def encode(text: Any, encoding: Any = "latin1") -> bytes:
        """How old pickles write bytes."""
        if not isinstance(text, str) or encoding not in LATIN1:
            raise pickle.UnpicklingError("text in an encoding other than latin1")
        return text.encode("latin1")

    return encode


NAMES = frozenset(_allowed())  # beside these, a file may ask only for storages, which PyTorch makes
