"""Streams and events of the simulated CUDA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulated.cuda_calls import Calls, Event, call
from simulated.gpu import Record, Stream, Wait
from simulated.memory import Fault

NON_BLOCKING = 0x1
DISABLE_TIMING = 0x2


class StreamCalls(Calls):
    """See `Calls`."""

    @call(1)
    def cudaStreamCreate(self) -> int:
        return self._make_stream(0)

    @call(1)
    def cudaStreamCreateWithFlags(self, flags: int) -> int:
        return self._make_stream(flags)

    @call(1)
    def cudaStreamCreateWithPriority(self, flags: int, priority: int) -> int:
        return self._make_stream(flags)

    @call()
    def cudaStreamDestroy(self, stream: Any) -> None:
        found = self._find(stream, Stream)
        if found.capture is not None:
            self._misused("cudaErrorStreamCaptureUnsupported", "a stream was destroyed while it captured")
        found.destroyed = True
        self._forget(stream)

    @call()
    def cudaStreamSynchronize(self, stream: Any) -> None:
        found = self.stream(stream)
        self._refuse_capturing(found)
        self.gpu.separate(found)
        self.gpu.wait_for_stream(found)
        self._refuse_broken()

    @call()
    def cudaStreamQuery(self, stream: Any) -> None:
        found = self.stream(stream)
        self._refuse_capturing(found)
        self._poll(lambda: not found.queue, found)

    @call()
    def cudaStreamWaitEvent(self, stream: Any, event: Any, flags: int = 0) -> None:
        found, record = self.stream(stream), self._find(event, Event).record
        if (found.capture is not None) or (record is not None and record.captured):
            raise NotImplementedError("the simulation captures one stream at a time, which waits for no event")
        if record is not None and not record.done:
            found.queue.append(Wait(record))

    @call()
    def cudaDeviceSynchronize(self) -> None:
        for stream in self.gpu.streams:
            self._refuse_capturing(stream)
        self.gpu.wait_for_all()
        self._refuse_broken()

    @call(1)
    def cudaEventCreate(self) -> int:
        return self._keep(Event(timed=True))

    @call(1)
    def cudaEventCreateWithFlags(self, flags: int) -> int:
        return self._keep(Event(timed=not flags & DISABLE_TIMING))

    @call()
    def cudaEventDestroy(self, event: Any) -> None:
        self._find(event, Event)
        self._forget(event)

    @call()
    def cudaEventRecord(self, event: Any, stream: Any) -> None:
        found, queue = self._find(event, Event), self.stream(stream)
        if queue.capture is not None:
            found.record = Record(queue, captured=True)
        else:
            self.gpu.separate(queue)
            found.record = queue.last(self.gpu.host_s)

    @call()
    def cudaEventSynchronize(self, event: Any) -> None:
        record = self._find(event, Event).record
        if record is not None:
            self._refuse_captured(record)
            self.gpu.wait_for_record(record)
            self._refuse_broken()

    @call()
    def cudaEventQuery(self, event: Any) -> None:
        record = self._find(event, Event).record
        if record is not None:
            self._refuse_captured(record)
            self._poll(lambda: record.done, record.stream)

    @call(1)
    def cudaEventElapsedTime(self, start: Any, end: Any) -> float:
        first, last = self._find(start, Event), self._find(end, Event)
        if first.record is None or last.record is None or not (first.timed and last.timed):
            raise Fault("cudaErrorInvalidResourceHandle", "an event was never recorded, or keeps no time")
        if not (first.record.done and last.record.done):
            raise Fault("cudaErrorNotReady", "an event was not reached")
        return (last.record.time_s - first.record.time_s) * 1e3

    def _make_stream(self, flags: int) -> int:
        made = Stream(0, blocking=not flags & NON_BLOCKING)
        made.handle = self._keep(made)
        self.gpu.streams.append(made)
        return made.handle

    def _refuse_capturing(self, stream: Stream) -> None:
        """It is not known when what is captured will be done."""
        if stream.capture is not None:
            stream.capture.spoilt = "the stream was waited for while it was captured"
            raise Fault("cudaErrorStreamCaptureUnsupported", stream.capture.spoilt)

    def _refuse_captured(self, record: Record) -> None:
        if record.captured:
            raise Fault("cudaErrorCapturedEvent", "the event is part of a capture")

    def _poll(self, over: Callable[[], bool], stream: Stream) -> None:
        if over():
            return
        self.gpu.poll(stream)
        self._refuse_broken()
        raise Fault("cudaErrorNotReady", "it is not done")
