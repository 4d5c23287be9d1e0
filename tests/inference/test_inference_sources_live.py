"""Live sources: the newest frame, nothing invented, every loss told, no wait without an end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from nddr_deploy.errors import NddrError, UnreadableError
from nddr_deploy.inference import captures, live
from nddr_deploy.inference.base import Frame
from nddr_deploy.inference.live import LiveSource
from nddr_deploy.inference.sources import open_source
from nddr_deploy.preprocess import Image


class FakeCamera:
    """Gives pictures 0, 1, 2, ... `every_s`; loses its connection before those in `breaks`, and after `last`."""

    def __init__(self, every_s: float = 0.002, breaks: tuple[int, ...] = (), last: int | None = None) -> None:
        self.rate: Fraction | None = None
        self.every_s, self.breaks, self.last = every_s, list(breaks), last
        self.taken = 0
        self.connections = 0
        self.closed = 0

    def connect(self) -> FakeCamera:
        if self.last is not None and self.taken > self.last:
            raise UnreadableError("the camera is gone.")
        self.connections += 1
        return self

    def read(self) -> Image:
        time.sleep(self.every_s)
        if (self.breaks and self.breaks[0] == self.taken) or (self.last is not None and self.taken > self.last):
            self.breaks[:1] = []
            raise UnreadableError("the camera is lost.")
        self.taken += 1
        return np.full((2, 2, 3), self.taken - 1, dtype=np.uint8)

    def close(self) -> None:
        self.closed += 1


class SilentCamera(FakeCamera):
    """Opens, and then no picture comes."""

    def read(self) -> Image:
        time.sleep(5)
        raise UnreadableError("nothing came.")


def number_in(frame: Frame) -> int:
    return int(frame.image[0, 0, 0])


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_WAIT_S", 0.02)


def test_a_slow_reader_gets_the_newest_frame_and_the_dropped_ones_are_counted() -> None:
    camera = FakeCamera()
    source = LiveSource(camera.connect, "fake")
    numbers, behind = [], []

    for frame in source:
        numbers.append(number_in(frame))
        behind.append(camera.taken - 1 - numbers[-1])
        time.sleep(0.05)  # about 25 pictures
        newest = camera.taken - 1
        if len(numbers) == 5:
            break
    dropped = source.remarks.dropped
    source.close()

    gaps = np.diff(numbers)
    assert min(gaps[1:]) > 5  # with a queue that keeps the oldest they would be 1
    assert sorted(behind)[2] < 5  # the median; one that waited since the last frame was taken is about 20 behind
    assert newest > numbers[-1]
    assert dropped >= numbers[-1] + 1 - len(numbers)  # every number that was skipped, and some after the last
    assert dropped <= camera.taken - len(numbers)


def test_a_fast_reader_loses_nothing() -> None:
    source = LiveSource(FakeCamera(every_s=0.03).connect, "fake")

    frames = [frame for frame, _ in zip(source, range(6), strict=False)]
    source.close()

    times = [frame.time_s for frame in frames]
    assert [number_in(frame) for frame in frames] == list(range(6))
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.name for frame in frames][:2] == ["000000", "000001"]
    assert source.info.kind == "live"
    assert source.info.frames is None
    assert 0.1 < float(times[5] - times[0]) < 2  # type: ignore[operator]  # five pauses of 0.03 s, on a busy machine
    assert all((time_s / source.info.time_base).denominator == 1 for time_s in times)  # type: ignore[operator]


@pytest.mark.usefixtures("short_pauses")
def test_a_lost_connection_is_taken_up_again_and_the_gap_is_told() -> None:
    camera = FakeCamera(every_s=0.01, breaks=(3,))
    source = LiveSource(camera.connect, "fake")

    numbers = [number_in(frame) for frame, _ in zip(source, range(6), strict=False)]
    source.close()

    assert numbers[-1] >= 5
    assert camera.connections == 2
    ((start_s, length_s),) = source.remarks.gaps
    assert start_s > 0.02
    assert 0.02 <= length_s < 2  # one pause, on a busy machine
    assert source.remarks.problems == []


@pytest.mark.usefixtures("short_pauses")
def test_a_connection_that_does_not_come_back_ends_the_source_with_one_sentence() -> None:
    source = LiveSource(FakeCamera(last=4).connect, "fake", reconnect_s=0.2)

    frames = list(source)

    assert 1 <= len(frames) <= 5
    assert number_in(frames[-1]) == 4
    assert len(source.remarks.problems) == 1


def test_a_failure_that_is_no_lost_connection_reaches_the_reader() -> None:
    class Broken(FakeCamera):
        def read(self) -> Image:
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        list(LiveSource(Broken().connect, "fake"))


def test_closing_from_another_thread_ends_a_reader_that_waits() -> None:
    source = LiveSource(SilentCamera().connect, "fake")
    threading.Timer(0.1, source.close).start()
    start = time.monotonic()

    assert list(source) == []
    assert time.monotonic() - start < 2  # the camera itself stays silent for 5


def test_closing_before_the_first_frame_frees_the_camera() -> None:
    camera = FakeCamera()
    source = LiveSource(camera.connect, "fake")

    source.close()
    source.close()

    assert camera.closed >= 1


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_refused_connection_is_one_sentence_within_seconds_without_the_password(
    scheme: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()

    with pytest.raises(NddrError) as caught:
        open_source(f"{scheme}://user:secret@127.0.0.1:{port}/live?token=hidden")

    message = str(caught.value)
    assert time.monotonic() - start < 5
    assert f"127.0.0.1:{port}" in message
    assert "secret" not in message
    assert "hidden" not in message
    assert "\n" not in message
    assert capfd.readouterr().err == ""


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(5)
        yield listening.getsockname()[1]


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_never_answers_ends_the_wait(
    scheme: str, silent_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nddr_deploy.inference import video

    assert 5 <= video.OPEN_S <= 10
    monkeypatch.setattr(video, "OPEN_S", 1)
    start = time.monotonic()

    with pytest.raises(NddrError):
        open_source(f"{scheme}://127.0.0.1:{silent_server}/live")

    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "number",
    ["97", "x", "", "-1", "²"],
)
def test_a_camera_that_is_not_there_is_one_sentence(number: str) -> None:
    with pytest.raises(NddrError, match="camera") as caught:
        open_source(f"camera:{number}")

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://[bad/live",
        "gopher://host/x",
        "rtsp://host:port/x",
        "http://",
    ],
)
def test_an_address_that_is_none_is_one_sentence(address: str) -> None:
    with pytest.raises(NddrError):
        open_source(address)


def test_the_password_is_not_in_the_name_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "StreamCapture", lambda address: FakeCamera())

    source = open_source("rtsp://user:secret@host:554/live?token=hidden")

    assert "secret" not in source.info.name
    assert "hidden" not in source.info.name
    assert "host:554/live" in source.info.name
    source.close()
