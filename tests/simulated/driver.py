"""libcuda.so.1 over a simulated GPU: what is asked through ctypes, without any package."""

from __future__ import annotations

import ctypes
from typing import Any

from simulated.gpu import Gpu
from simulated.memory import Fault

NAME = "libcuda.so.1"
COMPUTE_MAJOR, COMPUTE_MINOR = 75, 76  # CUdevice_attribute
DEVICE_ORDINAL = 9  # CUpointer_attribute
SUCCESS, INVALID_VALUE, NO_DEVICE, INVALID_DEVICE = 0, 1, 100, 101


class Driver:
    """Functions named as there; results go where the arguments point, which are `ctypes.byref` of something."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def cuInit(self, flags: int) -> int:
        return SUCCESS if self._gpu.kind.count else NO_DEVICE

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self._gpu.kind.driver_cuda
        return SUCCESS

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self._gpu.kind.count
        return SUCCESS

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = ordinal
        return self._known(ordinal)

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = self._gpu.kind.name.encode()[: size - 1]
        return self._known(device)

    def cuDeviceTotalMem_v2(self, size: Any, device: Any) -> int:
        size._obj.value = self._gpu.kind.memory_bytes
        return self._known(device)

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        known = dict(zip((COMPUTE_MAJOR, COMPUTE_MINOR), self._gpu.kind.compute_capability, strict=True))
        if attribute not in known:
            raise NotImplementedError(f"the simulated driver does not know the attribute {attribute}")
        value._obj.value = known[attribute]
        return self._known(device)

    def cuPointerGetAttribute(self, value: Any, attribute: int, pointer: Any) -> int:
        if attribute != DEVICE_ORDINAL:
            raise NotImplementedError(f"the simulated driver does not know the attribute {attribute}")
        try:
            found = self._gpu.memory.find(_plain(pointer))
        except Fault:
            return INVALID_VALUE
        if found is None or found.freed:
            return INVALID_VALUE
        value._obj.value = 0
        return SUCCESS

    def _known(self, device: Any) -> int:
        return SUCCESS if 0 <= _plain(device) < self._gpu.kind.count else INVALID_DEVICE


def _plain(value: Any) -> int:
    return int(getattr(value, "value", value))


def library(driver: Driver) -> type[ctypes.CDLL]:
    """What stands for `ctypes.CDLL`: it loads every library, but for the driver."""
    real = ctypes.CDLL

    class CDLL(real):  # type: ignore[misc, valid-type]
        def __new__(cls, name: Any = None, *args: Any, **kwargs: Any) -> Any:
            return driver if name == NAME else real(name, *args, **kwargs)

    return CDLL
