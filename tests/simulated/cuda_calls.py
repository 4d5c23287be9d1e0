"""What every call of the simulated CUDA does first: the state it is in, the handles it was given."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from simulated.gpu import CALL_S, Gpu, Record, Stream, Work
from simulated.memory import Fault

PER_THREAD = 2
Kept = TypeVar("Kept")
# What CUDA refuses while a stream is captured, unless in relaxed mode: it may wait for, or change, what others use.
UNSAFE = {"cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaMallocHost", "cudaFreeHost", "cudaMemcpy", "cudaMemset"}
# What tells of versions and errors, also where there is no GPU, or after it broke down.
ALWAYS = {
    "cudaGetErrorName",
    "cudaGetErrorString",
    "cudaRuntimeGetVersion",
    "cudaDriverGetVersion",
    "cudaGetLastError",
    "cudaPeekAtLastError",
}


@dataclass(eq=False)
class Event:
    """Attributes:
    timed: time can be asked for.
    record: where it was placed last; None before.
    """

    timed: bool
    record: Record | None = None


@dataclass(eq=False)
class Graph:
    """What was captured."""

    work: tuple[Work, ...]


@dataclass(eq=False)
class Executable:
    """What can be launched."""

    work: tuple[Work, ...]


NAMES = {Stream: "stream", Event: "event", Graph: "graph", Executable: "executable graph"}


def call(results: int = 0) -> Callable[[Callable[..., Any]], Callable[..., tuple[Any, ...]]]:
    """A function of CUDA: it returns `results` values or fails with a `Fault`."""

    def decorate(function: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        @functools.wraps(function)
        def called(self: Calls, *args: Any) -> tuple[Any, ...]:
            with self.lock:
                self.gpu.host_s += CALL_S
                try:
                    self._check_state(function.__name__)
                    found = function(self, *args)
                except Fault as fault:
                    self.last_error = fault.name
                    return (fault.name, *[None] * results)
                return ("cudaSuccess", *(found if results > 1 else [found] * results))

        return called

    return decorate


class Calls:
    """One process's view of CUDA.

    Args:
        gpu: that does the work.
        version: of CUDA that the bindings speak, as CUDA writes it: 12090.

    Attributes:
        pageable: copies from or to ordinary memory of the host that were meant to be asynchronous.
        last_error: that a call gave.
        lock: held during each call.
    """

    def __init__(self, gpu: Gpu, version: int) -> None:
        self.gpu, self.version = gpu, version
        self.pageable: list[str] = []
        self.lock = threading.RLock()
        self.last_error = "cudaSuccess"
        self._numbers = itertools.count(0x5000_0000, 0x80)
        self._handles: dict[int, Any] = {}
        self._gone: dict[int, str] = {}

    def leaks(self) -> list[str]:
        """What was made and not destroyed."""
        made = [f"{NAMES[type(found)]} {handle:#x}" for handle, found in self._handles.items()]
        return [str(found) for found in self.gpu.memory.live()] + made

    def stream(self, handle: Any) -> Stream:
        """A stream by what CUDA calls it: 0 and 1 are the default stream."""
        if int(handle) in (0, 1):
            return self.gpu.default
        if int(handle) == PER_THREAD:
            raise NotImplementedError("the simulation has no default stream per thread")
        return self._find(handle, Stream)

    def spoil_captures(self, name: str) -> None:
        """Refuse what may not happen while a stream is captured.

        Raises:
            Fault: one is, in a mode that forbids it; the capture is lost.
        """
        for stream in self.gpu.streams:
            capture = stream.capture
            foreign = capture is not None and capture.thread != threading.get_ident()
            if capture is None or capture.mode == "Relaxed" or (foreign and capture.mode == "ThreadLocal"):
                continue
            capture.spoilt = f"{name} was called while a stream was captured"
            raise Fault("cudaErrorStreamCaptureUnsupported", capture.spoilt)

    def _check_state(self, name: str) -> None:
        if name in ALWAYS:
            return
        kind = self.gpu.kind
        if kind.driver_cuda // 1000 < self.version // 1000:
            raise Fault("cudaErrorInsufficientDriver", "the driver is too old")
        if kind.count == 0:
            raise Fault("cudaErrorNoDevice", "there is no GPU")
        if self.gpu.broken:
            raise Fault(self.gpu.broken, "an earlier operation broke the device")
        if name in UNSAFE:
            self.spoil_captures(name)

    def _refuse_broken(self) -> None:
        """Tell of what went wrong in something that was waited for."""
        if self.gpu.broken:
            raise Fault(self.gpu.broken, self.gpu.misuse[-1])

    def _keep(self, made: Any) -> int:
        handle = next(self._numbers)
        self._handles[handle] = made
        return handle

    def _find(self, handle: Any, kind: type[Kept]) -> Kept:
        found = self._handles.get(int(handle))
        if isinstance(found, kind):
            return found
        if int(handle) in self._gone:
            self.gpu.misuse.append(f"a {self._gone[int(handle)]} was used after it was destroyed")
        raise Fault("cudaErrorInvalidResourceHandle", f"{int(handle):#x} is no {NAMES[kind]}")

    def _forget(self, handle: Any) -> None:
        self._gone[int(handle)] = NAMES[type(self._handles.pop(int(handle)))]

    def _misused(self, name: str, why: str) -> None:
        """Refuse, and keep in mind, what a correct program never does."""
        self.gpu.misuse.append(why)
        raise Fault(name, why)
