"""A machine with simulated GPUs: TensorRT, CUDA's runtime and the driver, for as long as a `with` block lasts.

    with simulate("10.13") as machine:
        build_engine("model.onnx", "model.trt")         # as on a real one
        with open_engine("model.trt") as engine: ...

When it ends, whatever was not freed, and everything that only a wrong program does, is an error.
"""

from __future__ import annotations

import ctypes
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

import pytest

from simulated.api import Api, CudaApi, checked, checked_cuda, true_api, true_cuda_api, why_absent
from simulated.cuda import Runtime
from simulated.driver import Driver, library
from simulated.gpu import Gpu, Kind
from simulated.tensorrt import World

VERSIONS = ("8.6", "10.13", "11.4")  # that engines are tested with


class Misuse(AssertionError):
    """What a program did that no correct one does."""


@dataclass(frozen=True)
class Machine:
    """What tests look at.

    Attributes:
        gpu: what happened on it.
        cuda: the implementation of CUDA's runtime; `cudart` is the module.
        world: the implementation of TensorRT; `trt` is the module.
        api, cuda_api: the true APIs; what of them was used.
    """

    gpu: Gpu
    cuda: Runtime
    cudart: types.ModuleType
    world: World
    trt: types.ModuleType
    api: Api
    cuda_api: CudaApi

    def check(self) -> None:
        """Let everything that is waiting happen, then look.

        Raises:
            Misuse: something was left behind, or went wrong.
        """
        self.gpu.wait_for_all()
        found = list(dict.fromkeys(self.gpu.misuse)) + [f"not freed: {leak}" for leak in self.cuda.leaks()]
        if found:
            raise Misuse("; ".join(found))


@contextmanager
def simulate(
    version: str = "10.13", *, seed: int = 0, pretend: str | None = None, kind: Kind | None = None, **about: Any
) -> Iterator[Machine]:
    """Put a simulated machine in the place of this one. Skips the test where the bindings are not installed.

    Args:
        version: of TensorRT, or a beginning of it that names one.
        seed: of the order in which things happen on the GPU.
        pretend: "Float", as if TensorRT had built everything in FP32.
        kind: of GPU; else a `Kind` with the other arguments: `count=0`, `name=...`, `memory_bytes=...`.

    Raises:
        Misuse: at the end; not where the block raised.
    """
    cuda_version = "13.5" if version.startswith("11") and sys.version_info >= (3, 11) else "12.9"
    for wanted in (version, cuda_version):
        if reason := why_absent(wanted):
            pytest.skip(reason)
    api, trt, current_world = _double(version)
    cuda_api, cudart, current_cuda = _cuda_double(cuda_version)
    for used in (api, cuda_api):
        used.used.clear()
        used.missed.clear()
    gpu = Gpu(kind or Kind(**about), seed)
    cuda = Runtime(gpu, int(cuda_version.split(".")[0]) * 1000)
    world = World(api, gpu, cuda, pretend)
    current_world.now, current_cuda.now = world, cuda
    machine = Machine(gpu, cuda, cudart, world, trt, api, cuda_api)
    bindings, package = types.ModuleType("cuda.bindings"), types.ModuleType("cuda")
    package.bindings, bindings.runtime = bindings, machine.cudart  # type: ignore[attr-defined]
    modules = {
        "tensorrt": machine.trt,
        "cuda": package,
        "cuda.bindings": bindings,
        "cuda.bindings.runtime": machine.cudart,
    }
    with _in_place(modules), patch.object(ctypes, "CDLL", library(Driver(gpu))):
        yield machine
        machine.check()


class Current:
    """The implementation of the machine that there is now: doubles are made once, which takes long."""

    now: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)


@cache
def _double(version: str) -> tuple[Api, types.ModuleType, Current]:
    api, current = true_api(version), Current()
    return api, checked(api, current), current


@cache
def _cuda_double(version: str) -> tuple[CudaApi, types.ModuleType, Current]:
    api, current = true_cuda_api(version), Current()
    return api, checked_cuda(api, current), current


@contextmanager
def _in_place(modules: dict[str, types.ModuleType]) -> Iterator[None]:
    """Only these change: what is imported meanwhile stays."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
