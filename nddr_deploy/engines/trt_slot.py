"""One pass in flight: pinned host memory, device memory, a stream and an execution context of its own.

Two slots overlap: while the GPU works for one, the host fills the other and its copies run. Nothing is shared between
them, so no order between their streams is needed.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, closing, suppress
from typing import Any

import numpy as np

from nddr_deploy.engines.base import PassTimes
from nddr_deploy.engines.cuda_runtime import CudaError, DeviceMemory, Event, Graph, PinnedMemory, Stream
from nddr_deploy.engines.device_array import DeviceArray
from nddr_deploy.engines.trt_library import reason
from nddr_deploy.errors import InputError, UnsupportedError
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

Shape = tuple[int, ...]
INPUT = "images"
ALIGNMENT = 256  # bytes, of every address that TensorRT is given


class Slot:
    """Room for one pass.

    Args:
        context: an execution context of the engine that no other slot uses.
        largest: the largest shape of `images` that it will be given.
        outputs: task name -> type of the output.
        log: of the library, for errors.
        profiled: the plan leaves a shape open.
        graph: launch the computation as one CUDA graph; only where the input's shape never changes.

    Attributes:
        busy: a pass was started and not finished.
        graph_refused: why there is no CUDA graph although one was asked for; empty where there is.
    """

    def __init__(
        self, context: Any, *, largest: Shape, outputs: dict[str, np.dtype[Any]], log: Any, profiled: bool, graph: bool
    ) -> None:
        self._context, self._outputs, self._log = context, outputs, log
        self.busy = False
        self.graph_refused = ""
        self._shape: Shape | None = None
        self._given: DeviceArray | None = None
        self._graph: Graph | None = None
        self._marks: list[Event] = []
        with ExitStack() as opened:
            self._stream = opened.enter_context(closing(Stream()))
            self._finished = opened.enter_context(closing(Event()))
            if profiled:
                self._choose_profile()
            self._set_shape(largest)
            self._sizes = {name: math.prod(self._output_shape(name)) * kind.itemsize for name, kind in outputs.items()}
            self._pinned, self._device = {}, {}
            for name, size in {INPUT: math.prod(largest), **self._sizes}.items():
                self._pinned[name] = opened.enter_context(closing(PinnedMemory(size)))
                self._device[name] = opened.enter_context(closing(DeviceMemory(size)))
                self._point(name, self._device[name].pointer)
            opened.callback(self._let_go)
            opened.callback(self._stream.wait)  # before anything is freed that may still be in use
            self._stream.clear(self._device[INPUT].pointer, math.prod(largest))
            if graph:
                self._capture(opened)
            self._stream.wait()
            self._opened = opened.pop_all()

    @property
    def stream_pointer(self) -> int:
        return self._stream.pointer

    @property
    def has_graph(self) -> bool:
        return self._graph is not None

    def start(self, images: Image | DeviceArray) -> None:
        """Give the GPU one pass to do. Returns at once; an array on the GPU is read where it is."""
        self._begin(images, [])

    def finish(self) -> dict[str, Array]:
        """Wait for the pass that was started. The arrays are the caller's to keep."""
        self._check_open()
        try:
            self._finished.wait()
        finally:
            self._let_go()
        return {
            name: self._pinned[name].view(self._output_shape(name), kind).copy() for name, kind in self._outputs.items()
        }

    def abandon(self) -> None:
        """Let the pass that was started end, without its results. Does nothing after `close`."""
        if self._context is not None:
            with suppress(CudaError):
                self._stream.wait()
            self._let_go()

    def time(self, images: Image) -> PassTimes:
        """One pass, split by events between its parts. Nothing else may be in flight."""
        if not self._marks:
            self._marks = [self._opened.enter_context(closing(Event(timed=True))) for _ in range(4)]
        before, uploaded, computed, downloaded = self._marks
        enqueue_s = self._begin(images, self._marks)
        try:
            self._finished.wait()
        finally:
            self._let_go()
        return PassTimes(
            h2d_s=uploaded.seconds_since(before),
            enqueue_s=enqueue_s,
            compute_s=computed.seconds_since(uploaded),
            d2h_s=downloaded.seconds_since(computed),
        )

    def time_layers(self, images: Image, profiler: Any) -> None:
        """One pass, layer by layer, told to the profiler; only of a slot without a graph."""
        self._context.profiler = profiler
        self._context.enqueue_emits_profile = False  # else every start of a pass would wait for its end
        self.start(images)
        self.finish()
        if not self._context.report_to_profiler():
            raise UnsupportedError(f"TensorRT tells no layer times: {reason(self._log)}.")

    def close(self) -> None:
        """Wait for what is in flight and free everything."""
        try:
            self._stream.wait()
        finally:
            self._opened.close()
            self._context = None

    def _begin(self, images: Image | DeviceArray, marks: list[Event]) -> float:
        """Returns the host's seconds for starting the computation."""
        self._check_open()
        self.busy = True
        try:
            return self._enqueue_all(images, marks)
        except BaseException:
            self.abandon()
            raise

    def _enqueue_all(self, images: Image | DeviceArray, marks: list[Event]) -> float:
        stream = self._stream
        if isinstance(images, DeviceArray):
            self._given = images  # first of all: it is let go of whatever happens
            self._set_shape(images.shape)
            if images.ready_stream is not None:
                with closing(Event()) as ready:
                    ready.record(images.ready_stream)
                    stream.wait_for(ready)
            if images.pointer % ALIGNMENT == 0:
                self._point(INPUT, images.pointer)
            else:
                stream.copy(images.pointer, self._device[INPUT].pointer, math.prod(images.shape))
                self._point(INPUT, self._device[INPUT].pointer)
        else:
            self._set_shape(images.shape)
            np.copyto(self._pinned[INPUT].view(images.shape, images.dtype), images)
            _mark(marks, 0, stream)
            stream.upload(self._pinned[INPUT].pointer, self._device[INPUT].pointer, images.nbytes)
            self._point(INPUT, self._device[INPUT].pointer)
        _mark(marks, 1, stream)
        begun = time.perf_counter()
        if self._graph is not None and self._given is None:
            self._graph.launch(stream)
        else:
            self._enqueue()
        enqueue_s = time.perf_counter() - begun
        _mark(marks, 2, stream)
        for name, kind in self._outputs.items():
            size = math.prod(self._output_shape(name)) * kind.itemsize
            stream.download(self._device[name].pointer, self._pinned[name].pointer, size)
        _mark(marks, 3, stream)
        self._finished.record(stream.handle)
        return enqueue_s

    def _capture(self, opened: ExitStack) -> None:
        """The computation as a graph; TensorRT wants to have run once before."""
        self._enqueue()
        self._stream.wait()
        graph = opened.enter_context(closing(Graph()))
        try:
            with self._stream.captured(graph):
                self._enqueue()
        except UnsupportedError as error:
            self.graph_refused = str(error)
        else:
            self._graph = graph

    def _choose_profile(self) -> None:
        """The only one; a second context of TensorRT 8.6 may start without."""
        if self._context.active_optimization_profile != 0:
            if not self._context.set_optimization_profile_async(0, self._stream.pointer):
                raise UnsupportedError(f"TensorRT gives a second context no profile: {reason(self._log)}.")
            self._stream.wait()

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.pointer):
            raise UnsupportedError(f"TensorRT could not run the engine: {reason(self._log)}.")

    def _set_shape(self, shape: Shape) -> None:
        if shape != self._shape:
            if not self._context.set_input_shape(INPUT, shape):
                raise UnsupportedError(f"TensorRT does not take images of shape {shape}: {reason(self._log)}.")
            self._shape = shape

    def _output_shape(self, name: str) -> Shape:
        return tuple(self._context.get_tensor_shape(name))

    def _point(self, name: str, pointer: int) -> None:
        if not self._context.set_tensor_address(name, pointer):
            raise UnsupportedError(f"TensorRT does not take the address of {name!r}: {reason(self._log)}.")

    def _check_open(self) -> None:
        if self._context is None:
            raise InputError("This engine was closed while a stream of it was read. Open the model again.")

    def _let_go(self) -> None:
        self.busy = False
        if self._given is not None:
            given, self._given = self._given, None
            given.release()


def _mark(marks: list[Event], index: int, stream: Stream) -> None:
    if marks:
        marks[index].record(stream.handle)
