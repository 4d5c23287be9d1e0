"""A live source: always the newest picture, and a lost connection is taken up again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from threading import Condition, Thread

from nddr_deploy.errors import UnreadableError
from nddr_deploy.inference.base import Frame, Remarks, SourceInfo
from nddr_deploy.inference.captures import Capture
from nddr_deploy.preprocess import Image

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0  # between two tries to reconnect; doubled each time
TIME_BASE = Fraction(1, 90000)


class LiveSource:
    """Frames of a camera or a stream, as they arrive.

    A thread of its own takes every picture, and keeps only the newest: what the engine had no time for is dropped and
    counted. When the connection is lost it is opened again with growing pauses, and the gap goes into
    `remarks.gaps`; no picture is invented for it.

    Args:
        connect: opens a connection; called once here, and again after each loss.
        name: for people.
        reconnect_s: how long to try to get a lost connection back, before the source ends with a problem.

    Raises:
        UnreadableError: the first connection fails.
    """

    def __init__(self, connect: Callable[[], Capture], name: str, *, reconnect_s: float = 60.0) -> None:
        self.remarks = Remarks()
        self._connect = connect
        self._reconnect_s = reconnect_s
        self._capture: Capture | None = connect()
        self.info = SourceInfo(name=name, kind="live", rate=self._capture.rate, time_base=TIME_BASE)
        self._newest: tuple[Image, Fraction] | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self._changed = Condition()
        self._start = time.monotonic_ns()
        self._thread = Thread(target=self._grab_all, name=f"grab {name}", daemon=True)

    def __iter__(self) -> Iterator[Frame]:
        self._start = time.monotonic_ns()
        self._thread.start()
        index = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest or self._ended or self._closed)
                if self._closed or self._newest is None:
                    break
                (image, time_s), self._newest = self._newest, None
            yield Frame(image, index, time_s, f"{index:06d}")
            index += 1
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.ident is None and self._capture is not None:  # never iterated: nobody else will
            self._capture.close()
            self._capture = None

    def _grab_all(self) -> None:
        try:
            while not self._closed and self._capture is not None:
                try:
                    image = self._capture.read()
                except UnreadableError as lost:
                    self._reopen(lost)
                else:
                    self._offer(image)
        except BaseException as error:  # handed to the thread that iterates
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            if self._capture is not None:
                self._capture.close()

    def _offer(self, image: Image) -> None:
        with self._changed:
            self.remarks.dropped += self._newest is not None
            self._newest = image, self._now_s()
            self._changed.notify_all()

    def _reopen(self, lost: UnreadableError) -> None:
        """Try until it works, the source is closed, or the time is over (then `_capture` is None)."""
        lost_s, wait_s = self._now_s(), FIRST_WAIT_S
        if self._capture is not None:
            self._capture.close()
        self._capture = None
        while not self._closed:
            if self._now_s() - lost_s > self._reconnect_s:
                self.remarks.problems.append(f"{lost} It did not come back within {self._reconnect_s:g} s.")
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closed, timeout=wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            try:
                self._capture = self._connect()
            except UnreadableError:
                continue
            self.remarks.gaps.append((float(lost_s), float(self._now_s() - lost_s)))
            return

    def _now_s(self) -> Fraction:
        """Since the iteration began, in whole steps of the time base."""
        return round((time.monotonic_ns() - self._start) * 90000 / 10**9) * TIME_BASE
