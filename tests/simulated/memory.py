"""Memory of a simulated GPU: every byte belongs to an allocation, and none is given out twice."""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

DEVICE_START, DEVICE_END = 0x6F00_0000_0000, 0x6FFF_0000_0000  # where no host memory lies: reading it there crashes
ALIGNMENT = 512
GAP = 4096  # between allocations on the device, so that writing too far never reaches the next
FRESH, FREED = 0xCD, 0xDD  # what is read before it was written, and after it was freed


class Fault(Exception):
    """A call or an operation that CUDA would fail; the name of its error."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name
        self.why = why


@dataclass(eq=False)
class Allocation:
    """Attributes:
    kind: "device" or "pinned".
    address: of its first byte; a device's is no address of the host.
    bytes: what is in it; pinned memory that was freed stays readable, with `FREED` in it.
    freed: it may not be touched any more.
    keep: what owns pinned bytes.
    """

    kind: str
    address: int
    bytes: Any
    freed: bool = False
    keep: Any = None

    @property
    def size(self) -> int:
        return int(self.bytes.size)

    def __str__(self) -> str:
        return f"{self.kind} memory of {self.size} bytes at {self.address:#x}"


class Memory:
    """All allocations of a simulation.

    Args:
        limit: bytes of the device.

    Attributes:
        reserved: bytes that a library took for itself.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reserved = 0
        self._all: dict[int, Allocation] = {}
        self._addresses: list[int] = []
        self._next = DEVICE_START

    @property
    def used(self) -> int:
        """Bytes of the device that are taken."""
        return self.reserved + sum(found.size for found in self.live() if found.kind == "device")

    def live(self) -> Iterator[Allocation]:
        return (found for found in self._all.values() if not found.freed)

    def allocate(self, kind: str, size: int) -> Allocation:
        """Memory full of rubbish.

        Raises:
            Fault: the device is full.
        """
        if kind == "device":
            if self.used + size > self.limit:
                raise Fault("cudaErrorMemoryAllocation", f"{size} bytes asked for, {self.limit - self.used} free")
            made = Allocation(kind, self._next, np.full(size, FRESH, np.uint8))
            self._next += -(-(size + GAP) // ALIGNMENT) * ALIGNMENT
        else:
            owner = ctypes.create_string_buffer(size + ALIGNMENT)
            address = -(-ctypes.addressof(owner) // ALIGNMENT) * ALIGNMENT
            made = Allocation(kind, address, host_bytes(address, size), keep=owner)
            made.bytes[:] = FRESH
        self._all[made.address] = made
        self._addresses = sorted(self._all)
        return made

    def free(self, kind: str, address: int) -> None:
        """Fault where nothing of that kind begins there, or it was freed already."""
        found = self._all.get(address)
        if found is None or found.kind != kind:
            raise Fault("cudaErrorInvalidValue", f"no {kind} memory begins at {address:#x}")
        if found.freed:
            raise Fault("cudaErrorInvalidValue", f"{found} was freed before")
        found.freed = True
        found.bytes[:] = FREED

    def find(self, address: int) -> Allocation | None:
        """The allocation, freed or not, that an address lies in; None of ordinary memory of the host.

        Raises:
            Fault: it is on the device, where nothing was ever allocated.
        """
        index = bisect_right(self._addresses, address) - 1
        found = self._all[self._addresses[index]] if index >= 0 else None
        if found is not None and found.address <= address < found.address + max(1, found.size):
            return found
        if DEVICE_START <= address < DEVICE_END or address == 0:
            raise Fault("cudaErrorIllegalAddress", f"nothing is allocated at {address:#x}")
        return None

    def view(self, address: int, size: int) -> Any:
        """So many bytes as an array of uint8.

        Raises:
            Fault: some of them were freed, or lie beyond the allocation.
        """
        if size == 0:
            return np.empty(0, np.uint8)
        found = self.find(address)
        if found is None:
            return host_bytes(address, size)
        if found.freed:
            raise Fault("cudaErrorIllegalAddress", f"{found} was freed")
        start = address - found.address
        if start + size > found.size:
            raise Fault("cudaErrorIllegalAddress", f"{size} bytes from {address:#x} reach beyond {found}")
        return found.bytes[start : start + size]

    def is_pageable(self, address: int) -> bool:
        """Ordinary memory of the host, which CUDA copies through buffers of its own."""
        return self.find(address) is None


def host_bytes(address: int, size: int) -> Any:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
