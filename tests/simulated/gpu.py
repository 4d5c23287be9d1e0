"""A GPU at its worst: what it was given happens only when somebody waits for it, in any order that is legal.

Three things keep their order: the work of one stream, work behind an event that was waited for, and what CUDA's default
stream separates. Everything else is drawn by a seed, anew for each wait: the awaited stream alone, all others before
it, or turn by turn. A program that forgets to wait for something finds it not done yet.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from simulated.memory import Fault, Memory

CALL_S = 2e-6  # that the host takes for each call
MOODS = ("alone", "others first", "by turns")


@dataclass(frozen=True)
class Costs:
    """Seconds that things take on the simulated clock."""

    copy_bytes_per_s: float = 10e9
    start_s: float = 5e-6
    compute_s: float = 1e-3


@dataclass(frozen=True)
class Kind:
    """What GPUs a machine has.

    Attributes:
        count: how many; all alike, and only the first one computes.
        name, compute_capability, memory_bytes, processors: of each.
        driver_cuda: the newest version of CUDA that the driver runs, as CUDA writes it.
        costs: how long things take.
    """

    count: int = 1
    name: str = "NVIDIA Simulated"
    compute_capability: tuple[int, int] = (8, 6)
    memory_bytes: int = 8 << 30
    processors: int = 40
    driver_cuda: int = 13000
    costs: Costs = Costs()


@dataclass(eq=False)
class Record:
    """An event's place in a stream; `done` at the time `time_s`; never where it was `captured`."""

    stream: Stream
    done: bool = False
    time_s: float = 0.0
    captured: bool = False
    issued_s: float = 0.0


@dataclass(eq=False)
class Wait:
    """The stream goes on only after a record."""

    record: Record


@dataclass(eq=False)
class Work:
    """Something to be done.

    Attributes:
        what: it is, for people.
        run: does it.
        cost_s: that it takes.
        owners: of what it needs for itself alone while it runs: an execution context's scratch memory.
        issued_s: when the host gave it.
    """

    what: str
    run: Callable[[], None]
    cost_s: float
    owners: frozenset[object] = frozenset()
    issued_s: float = 0.0


@dataclass(eq=False)
class Capture:
    """What a stream records instead of doing it; `spoilt` says what broke it."""

    mode: str
    thread: int
    work: list[Work] = field(default_factory=list)
    spoilt: str = ""


@dataclass(eq=False)
class Stream:
    """A queue.

    Attributes:
        handle: what CUDA calls it.
        blocking: the default stream separates its work.
        queue: what is not done yet.
        clock_s: when its last work was done.
        capture: where its work goes while it is captured.
        destroyed: nothing more may be given to it; what it has is still done.
    """

    handle: int
    blocking: bool
    queue: deque[Work | Record | Wait] = field(default_factory=deque)
    clock_s: float = 0.0
    capture: Capture | None = None
    destroyed: bool = False

    def last(self, now_s: float) -> Record:
        """A new place behind everything it has."""
        record = Record(self, issued_s=now_s)
        self.queue.append(record)
        return record


class Gpu:
    """The machine behind CUDA's calls.

    Args:
        kind: of GPU.
        seed: of the order in which things happen.

    Attributes:
        memory: of the device, and pinned memory of the host.
        misuse: what no correct program does, in sentences; a test fails if there is any.
        broken: the error that every call gives from now on.
        host_s: the clock of the host.
        most_in_flight: in how many streams work was waiting at once, at most.
        done: what was done, in its order.
    """

    def __init__(self, kind: Kind, seed: int) -> None:
        self.kind = kind
        self.memory = Memory(kind.memory_bytes)
        self.misuse: list[str] = []
        self.broken = ""
        self.host_s = 0.0
        self.most_in_flight = 0
        self.done: list[str] = []
        self.default = Stream(0, blocking=True)
        self.streams: list[Stream] = [self.default]
        self._random = random.Random(seed)

    def give(self, stream: Stream, work: Work) -> None:
        """Put work into a stream, or into what it captures.

        Raises:
            Fault: its capture is spoilt.
        """
        if stream.capture is not None:
            if stream.capture.spoilt:
                raise Fault("cudaErrorStreamCaptureInvalidated", stream.capture.spoilt)
            stream.capture.work.append(work)
            return
        self.separate(stream)
        for other in self.streams:
            for pending in other.queue:
                if isinstance(pending, Work) and pending.owners & work.owners and not self._behind(stream, pending):
                    self.misuse.append(
                        f"{work.what} was started on one stream while {pending.what} was in flight on another: both "
                        "use the same execution context"
                    )
        work.issued_s = self.host_s
        stream.queue.append(work)
        self.most_in_flight = max(self.most_in_flight, sum(_has_work(other) for other in self.streams))

    def separate(self, stream: Stream) -> None:
        """The default stream waits for all blocking ones, and they for it."""
        if stream is self.default:
            others = [other for other in self.streams if other.blocking and other is not stream and other.queue]
        else:
            others = [self.default] if stream.blocking and self.default.queue else []
        stream.queue.extend([Wait(other.last(self.host_s)) for other in others])

    def wait_for_stream(self, stream: Stream) -> None:
        self._wait(lambda: not stream.queue, stream)
        self.host_s = max(self.host_s, stream.clock_s)

    def wait_for_record(self, record: Record) -> None:
        self._wait(lambda: record.done, record.stream)
        self.host_s = max(self.host_s, record.time_s)

    def wait_for_all(self) -> None:
        while waiting := [stream for stream in self.streams if stream.queue]:
            self._step(self._random.choice(waiting))

    def poll(self, stream: Stream) -> None:
        """A question whether it is done makes it go on by one step, so that nobody asks for ever."""
        if stream.queue:
            self._step(stream)

    def pending(self, owner: object) -> bool:
        """Whether work of an owner is in flight."""
        return any(owner in work.owners for stream in self.streams for work in _work(stream))

    def _wait(self, over: Callable[[], bool], stream: Stream) -> None:
        mood = self._random.choice(MOODS)
        while not over():
            others = [other for other in self.streams if other.queue and other is not stream]
            early = mood == "others first" or (mood == "by turns" and self._random.random() < 0.5)
            self._step(self._random.choice(others) if early and others else stream)

    def _step(self, stream: Stream) -> None:
        """Do the first thing of a stream, or of one that it waits for."""
        first = stream.queue[0]
        if isinstance(first, Wait) and not first.record.done:
            self._step(first.record.stream)
            return
        stream.queue.popleft()
        if isinstance(first, Wait):
            stream.clock_s = max(stream.clock_s, first.record.time_s)
        elif isinstance(first, Record):
            first.done, first.time_s = True, max(stream.clock_s, first.issued_s)
        else:
            stream.clock_s = max(stream.clock_s, first.issued_s) + first.cost_s
            self.done.append(first.what)
            try:
                first.run()
            except Fault as fault:
                self.misuse.append(f"{first.what}: {fault.why}")
                self.broken = fault.name

    def _behind(self, stream: Stream, work: Work) -> bool:
        """Whether whatever the stream is given next can only run after that work."""
        queue = list(stream.queue)
        if work in queue:
            return True
        for entry in queue:
            if not isinstance(entry, Wait) or entry.record.done:
                continue
            before = list(entry.record.stream.queue)
            if work in before[: before.index(entry.record)]:
                return True
            if entry.record.stream is not stream and self._behind(entry.record.stream, work):
                return True
        return False


def _work(stream: Stream) -> Iterator[Work]:
    return (entry for entry in stream.queue if isinstance(entry, Work))


def _has_work(stream: Stream) -> bool:
    return next(_work(stream), None) is not None
