"""Graphs of the simulated CUDA: work that is captured once, with its addresses, and launched as a whole."""

from __future__ import annotations

import threading
from typing import Any

from simulated.cuda_calls import Calls, Executable, Graph, call
from simulated.gpu import Capture, Work
from simulated.memory import Fault


class GraphCalls(Calls):
    """See `Calls`."""

    @call()
    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> None:
        found = self.stream(stream)
        if found is self.gpu.default:
            raise Fault("cudaErrorStreamCaptureUnsupported", "the default stream cannot be captured")
        if found.capture is not None:
            raise Fault("cudaErrorIllegalState", "the stream is being captured already")
        found.capture = Capture(("Global", "ThreadLocal", "Relaxed")[int(mode)], threading.get_ident())

    @call(1)
    def cudaStreamEndCapture(self, stream: Any) -> int:
        found = self.stream(stream)
        capture, found.capture = found.capture, None
        if capture is None:
            raise Fault("cudaErrorIllegalState", "the stream is not being captured")
        if capture.spoilt:
            raise Fault("cudaErrorStreamCaptureInvalidated", capture.spoilt)
        return self._keep(Graph(tuple(capture.work)))

    @call(1)
    def cudaStreamIsCapturing(self, stream: Any) -> int:
        capture = self.stream(stream).capture
        return 0 if capture is None else 2 if capture.spoilt else 1

    @call(1)
    def cudaGraphInstantiate(self, graph: Any, flags: int) -> int:
        return self._keep(Executable(self._find(graph, Graph).work))

    @call(1)
    def cudaGraphInstantiateWithFlags(self, graph: Any, flags: int) -> int:
        return self._keep(Executable(self._find(graph, Graph).work))

    @call()
    def cudaGraphUpload(self, executable: Any, stream: Any) -> None:
        self._find(executable, Executable)
        self.stream(stream)

    @call()
    def cudaGraphLaunch(self, executable: Any, stream: Any) -> None:
        steps = self._find(executable, Executable).work

        def run() -> None:
            for step in steps:
                step.run()

        owners = frozenset(owner for step in steps for owner in step.owners)
        what = f"a graph of {', '.join(step.what for step in steps) or 'nothing'}"
        self.gpu.give(self.stream(stream), Work(what, run, sum(step.cost_s for step in steps), owners))

    @call()
    def cudaGraphDestroy(self, graph: Any) -> None:
        self._find(graph, Graph)
        self._forget(graph)

    @call()
    def cudaGraphExecDestroy(self, executable: Any) -> None:
        self._find(executable, Executable)
        self._forget(executable)
