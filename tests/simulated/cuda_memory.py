"""Memory and copies of the simulated CUDA."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from simulated.cuda_calls import Calls, call
from simulated.gpu import Stream, Work
from simulated.memory import Fault, host_bytes

KINDS = {0: ("host", "host"), 1: ("host", "device"), 2: ("device", "host"), 3: ("device", "device")}  # source, target


class MemoryCalls(Calls):
    """See `Calls`."""

    @call(1)
    def cudaMalloc(self, size: int) -> int:
        return self.gpu.memory.allocate("device", size).address if size else 0

    @call()
    def cudaFree(self, pointer: Any) -> None:
        self._free("device", int(pointer))

    @call(1)
    def cudaHostAlloc(self, size: int, flags: int) -> int:
        return self.gpu.memory.allocate("pinned", size).address

    @call(1)
    def cudaMallocHost(self, size: int) -> int:
        return self.gpu.memory.allocate("pinned", size).address

    @call()
    def cudaFreeHost(self, pointer: Any) -> None:
        self._free("pinned", int(pointer))

    @call()
    def cudaMemcpy(self, target: Any, source: Any, size: int, kind: int) -> None:
        self._copy(int(target), int(source), size, kind, self.gpu.default)
        self.gpu.wait_for_stream(self.gpu.default)
        self._refuse_broken()

    @call()
    def cudaMemcpyAsync(self, target: Any, source: Any, size: int, kind: int, stream: Any) -> None:
        queue = self.stream(stream)
        self._copy(int(target), int(source), size, kind, queue)
        if queue.capture is None and size and self.gpu.memory.is_pageable(int(target)):
            self.gpu.wait_for_stream(queue)  # CUDA returns from such a copy only when it is done
            self._refuse_broken()

    @call()
    def cudaMemset(self, pointer: Any, value: int, size: int) -> None:
        self._fill(int(pointer), value, size, self.gpu.default)

    @call()
    def cudaMemsetAsync(self, pointer: Any, value: int, size: int, stream: Any) -> None:
        self._fill(int(pointer), value, size, self.stream(stream))

    @call(2)
    def cudaMemGetInfo(self) -> tuple[int, int]:
        memory = self.gpu.memory
        return memory.limit - memory.used, memory.limit

    @call(1)
    def cudaPointerGetAttributes(self, pointer: Any) -> Any:
        found = self.gpu.memory.find(int(pointer))
        if found is None or found.freed:
            return SimpleNamespace(type=0, device=-2, devicePointer=0, hostPointer=0)
        host = int(pointer) if found.kind == "pinned" else 0
        return SimpleNamespace(type=1 if host else 2, device=0, devicePointer=int(pointer), hostPointer=host)

    def _free(self, kind: str, address: int) -> None:
        if address == 0:
            return
        try:
            self.gpu.memory.free(kind, address)
        except Fault as fault:
            self._misused(fault.name, fault.why)

    def _copy(self, target: int, source: int, size: int, kind: int, stream: Stream) -> None:
        """Source and target are looked at now, and again when the copy is done."""
        memory = self.gpu.memory
        sides = [(address, "target" if address == target else "source") for address in (source, target)]
        for (address, role), expected in zip(sides, KINDS.get(int(kind), ("", "")), strict=True):
            self._check(address, size, role)
            found = memory.find(address)
            place = "device" if found is not None and found.kind == "device" else "host"
            if expected not in ("", place):
                self._misused("cudaErrorInvalidValue", f"the {role} of a copy is on the {place}, not on the {expected}")
        bytes_from = {address: memory.is_pageable(address) for address in (source, target)}
        if any(bytes_from.values()) and stream is not self.gpu.default:
            self.pageable.append(f"copy of {size} bytes")
        if memory.is_pageable(source) and stream.capture is None:
            content = host_bytes(source, size).copy()  # CUDA takes it into a buffer of its own at once
            self._give(
                stream, f"copy of {size} bytes", lambda: memory.view(target, size).__setitem__(..., content), size
            )
        else:
            self._give(
                stream,
                f"copy of {size} bytes",
                lambda: memory.view(target, size).__setitem__(..., memory.view(source, size)),
                size,
            )

    def _fill(self, address: int, value: int, size: int, stream: Stream) -> None:
        self._check(address, size, "target")
        self._give(stream, f"fill of {size} bytes", lambda: self.gpu.memory.view(address, size).fill(value & 255), size)

    def _give(self, stream: Stream, what: str, run: Any, size: int) -> None:
        costs = self.gpu.kind.costs
        self.gpu.give(stream, Work(what, run, costs.start_s + size / costs.copy_bytes_per_s))

    def _check(self, address: int, size: int, role: str) -> None:
        try:
            if size and self.gpu.memory.find(address) is not None:
                self.gpu.memory.view(address, size)
        except Fault as fault:
            self._misused("cudaErrorInvalidValue", f"the {role} of a copy: {fault.why}")
