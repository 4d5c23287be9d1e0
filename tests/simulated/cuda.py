"""CUDA's runtime over a simulated GPU, for `checked_cuda`: functions named as there, that return the error first.

What a correct program never does is written down besides (`Gpu.misuse`), because real CUDA often does not notice.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from simulated.cuda_calls import call
from simulated.cuda_graphs import GraphCalls
from simulated.cuda_memory import MemoryCalls
from simulated.cuda_streams import StreamCalls
from simulated.memory import Fault

ATTRIBUTES = {16: "processors", 75: "major", 76: "minor"}  # cudaDeviceAttr


class Runtime(MemoryCalls, StreamCalls, GraphCalls):
    """See `Calls`."""

    @call(1)
    def cudaGetDeviceCount(self) -> int:
        return self.gpu.kind.count

    @call(1)
    def cudaGetDevice(self) -> int:
        return 0

    @call()
    def cudaSetDevice(self, device: int) -> None:
        self._known(device)
        if device != 0:
            raise NotImplementedError("the simulation computes on its first GPU only")

    @call(1)
    def cudaGetDeviceProperties(self, device: int) -> Any:
        self._known(device)
        kind = self.gpu.kind
        return SimpleNamespace(
            name=kind.name.encode(),
            major=kind.compute_capability[0],
            minor=kind.compute_capability[1],
            totalGlobalMem=kind.memory_bytes,
            multiProcessorCount=kind.processors,
        )

    @call(1)
    def cudaDeviceGetAttribute(self, attribute: Any, device: int) -> int:
        self._known(device)
        major, minor = self.gpu.kind.compute_capability
        known = {"processors": self.gpu.kind.processors, "major": major, "minor": minor}
        if int(attribute) not in ATTRIBUTES:
            raise NotImplementedError(f"the simulation does not know the attribute {attribute!r}")
        return known[ATTRIBUTES[int(attribute)]]

    @call(1)
    def cudaDriverGetVersion(self) -> int:
        return self.gpu.kind.driver_cuda

    @call(1)
    def cudaRuntimeGetVersion(self) -> int:
        return self.version

    @call(1)
    def cudaGetErrorName(self, error: Any) -> bytes:
        return str(getattr(error, "name", error)).encode()

    @call(1)
    def cudaGetErrorString(self, error: Any) -> bytes:
        return f"simulated {getattr(error, 'name', error)}".encode()

    def cudaGetLastError(self) -> tuple[str]:
        found, self.last_error = self.last_error, self.gpu.broken or "cudaSuccess"
        return (found,)

    def cudaPeekAtLastError(self) -> tuple[str]:
        return (self.last_error,)

    def _known(self, device: int) -> None:
        if not 0 <= device < self.gpu.kind.count:
            raise Fault("cudaErrorInvalidDevice", f"there is no GPU {device}")
