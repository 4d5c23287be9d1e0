"""CUDA's runtime: streams, events, memory and graphs as objects that are closed, and errors that are raised.

Through `cuda-bindings` alone. Everything belongs to the device that is current, the first visible one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nddr_deploy import optional
from nddr_deploy.errors import UnsupportedError
from nddr_deploy.tasks.base import Array


class CudaError(UnsupportedError):
    """A call of CUDA's runtime failed."""


def load_cudart() -> Any:
    """The module `cuda.bindings.runtime`; it imports without a GPU, its calls then fail."""
    return optional.load("cuda.bindings.runtime", extra="gpu")


def check_first_device() -> None:
    """Raise UnsupportedError where this thread was turned to another GPU than the first visible one."""
    current = done(load_cudart().cudaGetDevice())
    if current != 0:
        raise UnsupportedError(
            f"GPU {current} is current in this thread, but engines run on the first visible one. Turn back to it, or "
            f"start the program with CUDA_VISIBLE_DEVICES={current}."
        )


def done(result: tuple[Any, ...]) -> Any:
    """What a call returned, without its error code: nothing, a value, or a tuple.

    Raises:
        CudaError: the call failed.
    """
    error, *values = result
    if int(error) != 0:
        raise CudaError(_sentence(error))
    return values[0] if len(values) == 1 else tuple(values) or None


def _sentence(error: Any) -> str:
    cudart = load_cudart()
    name = error.name if hasattr(error, "name") else str(error)
    if name == "cudaErrorMemoryAllocation":
        return "The GPU's memory is full (cudaErrorMemoryAllocation). Close other programs, or choose a smaller batch."
    if name == "cudaErrorInsufficientDriver":
        return (
            "The NVIDIA driver is too old for the installed cuda-bindings (cudaErrorInsufficientDriver). Update the "
            "driver, or install the cuda-bindings of its CUDA version; nddr-doctor names both."
        )
    text = cudart.cudaGetErrorString(error)[1]
    return f"CUDA failed: {text.decode() if isinstance(text, bytes) else text} ({name}). See nddr-doctor."


class Event:
    """A place in a stream's work.

    Args:
        timed: whether time between two such events can be asked for; waiting for an untimed one is cheaper.
    """

    def __init__(self, *, timed: bool = False) -> None:
        self._cudart = cudart = load_cudart()
        flags = cudart.cudaEventDefault if timed else cudart.cudaEventBlockingSync | cudart.cudaEventDisableTiming
        self.handle = done(cudart.cudaEventCreateWithFlags(flags))

    def record(self, stream: Any) -> None:
        """Place it behind all that was given to the stream so far (a `Stream.handle`, or a pointer as an integer)."""
        done(self._cudart.cudaEventRecord(self.handle, stream))

    def wait(self) -> None:
        """Until the GPU has got there."""
        done(self._cudart.cudaEventSynchronize(self.handle))

    def seconds_since(self, earlier: Event) -> float:
        """Between two timed events that the GPU has passed."""
        milliseconds: float = done(self._cudart.cudaEventElapsedTime(earlier.handle, self.handle))
        return milliseconds / 1000

    def close(self) -> None:
        if self.handle is not None:
            handle, self.handle = self.handle, None
            done(self._cudart.cudaEventDestroy(handle))


class Stream:
    """A queue of the GPU's work of our own, independent of the default stream."""

    def __init__(self) -> None:
        self._cudart = cudart = load_cudart()
        self.handle = done(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))

    @property
    def pointer(self) -> int:
        return int(self.handle)

    def upload(self, source: int, target: int, size: int) -> None:
        """Copy bytes from pinned memory to the GPU, in turn."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        done(self._cudart.cudaMemcpyAsync(target, source, size, kind, self.handle))

    def download(self, source: int, target: int, size: int) -> None:
        """Copy bytes from the GPU to pinned memory, in turn."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        done(self._cudart.cudaMemcpyAsync(target, source, size, kind, self.handle))

    def copy(self, source: int, target: int, size: int) -> None:
        """Copy bytes from one place on the GPU to another, in turn."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        done(self._cudart.cudaMemcpyAsync(target, source, size, kind, self.handle))

    def clear(self, target: int, size: int) -> None:
        """Make bytes on the GPU 0, in turn."""
        done(self._cudart.cudaMemsetAsync(target, 0, size, self.handle))

    def wait_for(self, event: Event) -> None:
        """What is given to this stream from now on starts only after the event."""
        done(self._cudart.cudaStreamWaitEvent(self.handle, event.handle, 0))

    def wait(self) -> None:
        """Until everything that was given to it is done."""
        done(self._cudart.cudaStreamSynchronize(self.handle))

    @contextmanager
    def captured(self, into: Graph) -> Iterator[None]:
        """What the block gives to this stream is not done, but becomes `into`."""
        mode = self._cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        done(self._cudart.cudaStreamBeginCapture(self.handle, mode))
        try:
            yield
        except BaseException:
            _, graph = self._cudart.cudaStreamEndCapture(self.handle)  # the capture is spoilt; its error is known
            if graph is not None and int(graph):
                self._cudart.cudaGraphDestroy(graph)
            self._cudart.cudaGetLastError()  # forgets it, else the next call may be blamed
            raise
        into.instantiate(done(self._cudart.cudaStreamEndCapture(self.handle)))

    def close(self) -> None:
        if self.handle is not None:
            handle, self.handle = self.handle, None
            done(self._cudart.cudaStreamDestroy(handle))


class Graph:
    """Work that was captured once and is launched as a whole."""

    def __init__(self) -> None:
        self._cudart = load_cudart()
        self._executable: Any = None

    def instantiate(self, graph: Any) -> None:
        try:
            self._executable = done(self._cudart.cudaGraphInstantiate(graph, 0))
        finally:
            done(self._cudart.cudaGraphDestroy(graph))

    def launch(self, stream: Stream) -> None:
        done(self._cudart.cudaGraphLaunch(self._executable, stream.handle))

    def close(self) -> None:
        if self._executable is not None:
            executable, self._executable = self._executable, None
            done(self._cudart.cudaGraphExecDestroy(executable))


class DeviceMemory:
    """Bytes on the GPU."""

    def __init__(self, size: int) -> None:
        self._cudart = load_cudart()
        self.size = size
        self.pointer = int(done(self._cudart.cudaMalloc(size)))

    def close(self) -> None:
        if self.pointer:
            pointer, self.pointer = self.pointer, 0
            done(self._cudart.cudaFree(pointer))


class PinnedMemory:
    """Bytes on the host that the GPU copies from and to by itself."""

    def __init__(self, size: int) -> None:
        self._cudart = cudart = load_cudart()
        self.size = size
        self.pointer = int(done(cudart.cudaHostAlloc(size, cudart.cudaHostAllocDefault)))

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The first bytes as an array; not to be used after `close`."""
        size = int(np.prod(shape)) * dtype.itemsize
        raw = (ctypes.c_uint8 * size).from_address(self.pointer)
        return np.ctypeslib.as_array(raw).view(dtype).reshape(shape)

    def close(self) -> None:
        if self.pointer:
            pointer, self.pointer = self.pointer, 0
            done(self._cudart.cudaFreeHost(pointer))
