"""The three stages: nothing is lost, nothing hangs, and the report tells the truth."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from inference_fakes import FakeEngine, FakeSink, FakeSource

from nddr_deploy.errors import ConfigError, InputError, ModelFileError, UnreadableError
from nddr_deploy.inference.channel import Channel, Stopped
from nddr_deploy.inference.live import LiveSource
from nddr_deploy.inference.pipeline import run_pipeline
from nddr_deploy.preprocess import Image

SOON_S = 8.0  # "within seconds", on a busy machine


def test_a_file_loses_no_frame_and_keeps_their_order_however_slow_the_sink() -> None:
    source, sink = FakeSource(30), FakeSink(delay_s=0.06)

    report = run_pipeline(source, FakeEngine(), [sink], ahead=2)

    assert [result.frame.index for result in sink.results] == list(range(30))
    assert (report.frames, report.dropped, report.bottleneck) == (30, 0, "write")
    assert (source.closed, sink.closed, sink.aborted) == (1, 1, 0)


def test_every_result_belongs_to_its_frame_and_has_its_size() -> None:
    sink = FakeSink()

    run_pipeline(FakeSource(20, size_hw=(61, 97)), FakeEngine(), [sink])

    for result in sink.results:
        grey = int(result.frame.image[0, 0, 0])
        assert result.decoded["segmentation"].shape == (61, 97)
        assert result.decoded["normals"].shape == (61, 97, 3)
        # in the middle, away from the padding: brightness 0..255 became 0..10 m
        assert result.decoded["depth"][30, 48] == pytest.approx(grey / 25.5, abs=0.02)


def test_a_slow_engine_is_the_bottleneck() -> None:
    report = run_pipeline(FakeSource(5), FakeEngine(delay_s=0.02), [FakeSink()])

    assert report.bottleneck == "infer"
    assert report.parts["engine"] >= 5 * 0.02
    assert report.stages["infer"] == pytest.approx(report.parts["engine"] + report.parts["decode"])
    assert "<- the bottleneck" in next(line for line in report.text().splitlines() if "infer" in line)


def test_the_source_is_not_read_further_ahead_than_asked() -> None:
    hold, source = threading.Event(), FakeSource(100)
    sink = FakeSink(block=hold)
    run = threading.Thread(target=run_pipeline, args=(source, FakeEngine(), [sink]), kwargs={"ahead": 2})

    run.start()
    time.sleep(0.5)
    read = source.read
    hold.set()
    run.join(SOON_S)

    # two wait in each of two queues; one is in the hands of each stage
    assert read <= 2 * 2 + 3
    assert len(sink.results) == 100


@pytest.mark.parametrize("stage", ["source", "engine", "sink"])
def test_a_failing_stage_ends_the_run_within_seconds_with_its_error(stage: str) -> None:
    source = FakeSource(1000, fail_at=3 if stage == "source" else None)
    engine, sink = FakeEngine(), FakeSink(fail_at=3 if stage == "sink" else None)
    engine.fail_at = 3 if stage == "engine" else None
    start = time.monotonic()

    with pytest.raises(RuntimeError, match=f"the {stage} broke"):
        run_pipeline(source, engine, [sink])

    assert time.monotonic() - start < SOON_S
    assert (sink.closed, sink.aborted, source.closed) == (0, 1, 1)


def test_a_failing_engine_ends_the_run_even_while_the_sink_hangs() -> None:
    engine, hold = FakeEngine(), threading.Event()
    engine.fail_at = 2
    sink = FakeSink(block=hold)

    def once_the_sink_hangs(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert len(engine.batches) < 2 or sink.began.wait(SOON_S)
        return outputs

    engine.output = once_the_sink_hangs
    start = time.monotonic()

    with pytest.raises(RuntimeError, match="the engine broke"):
        run_pipeline(FakeSource(100), engine, [sink])

    assert time.monotonic() - start < SOON_S
    assert sink.aborted == 0, "a sink in which a thread hangs may not be touched"
    hold.set()


def test_a_sink_that_cannot_finish_ends_the_run_with_its_error_and_aborts_the_others() -> None:
    class Unfinishable(FakeSink):
        def close(self) -> None:
            raise RuntimeError("no trailer")

    first, second = Unfinishable(), FakeSink()

    with pytest.raises(RuntimeError, match="no trailer"):
        run_pipeline(FakeSource(3), FakeEngine(), [first, second])

    assert (first.aborted, second.aborted) == (1, 1)


def test_ctrl_c_on_a_file_aborts_the_output() -> None:
    sink = FakeSink(delay_s=0.05)

    def press(frames: int) -> None:
        if frames >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pipeline(FakeSource(1000), FakeEngine(), [sink], progress=press)

    assert (sink.closed, sink.aborted) == (0, 1)
    assert len(sink.results) < 100


class FakeCamera:
    """A picture every few milliseconds, each brighter than the one before."""

    rate = Fraction(200)

    def __init__(self, frames: int | None = None) -> None:
        self.taken = 0
        self._frames = frames

    def read(self) -> Image:
        if self.taken == self._frames:
            raise UnreadableError("fake: the stream has ended.")
        time.sleep(0.005)
        self.taken += 1
        return np.full((48, 64, 3), min(self.taken, 255), dtype=np.uint8)

    def close(self) -> None:
        pass


def test_a_live_source_drops_the_oldest_counts_it_and_stays_near_now() -> None:
    camera = FakeCamera()
    source, sink = LiveSource(lambda: camera, "fake"), FakeSink()
    lags: list[int] = []
    engine = FakeEngine(delay_s=0.05)

    class Watching(FakeSink):
        def write(self, result: object) -> None:
            lags.append(camera.taken - int(result.frame.image[0, 0, 0]))  # type: ignore[attr-defined]

    report = run_pipeline(source, engine, [sink, Watching()], limit=10)

    shown = [int(result.frame.image[0, 0, 0]) for result in sink.results]
    assert shown == sorted(set(shown))
    assert report.frames == 10
    assert report.dropped > 10, "one in about ten pictures can be used"
    # what is written lies at most a few engine passes (ten pictures each) behind: queues hold one frame
    assert sorted(lags)[5] < 60


def test_ctrl_c_on_a_live_source_finishes_the_recording() -> None:
    sink, pressed = FakeSink(), []

    def press(frames: int) -> None:
        if frames >= 3 and not pressed:
            pressed.append(frames)
            raise KeyboardInterrupt

    report = run_pipeline(LiveSource(FakeCamera, "fake"), FakeEngine(), [sink], progress=press)

    assert report.stopped
    assert report.frames == len(sink.results) >= 3
    assert (sink.closed, sink.aborted) == (1, 0)


def test_a_fixed_batch_is_filled_and_the_last_one_padded() -> None:
    engine, sink = FakeEngine(batch=4), FakeSink()

    report = run_pipeline(FakeSource(10), engine, [sink])

    assert engine.batches == [4, 4, 4]
    assert report.frames == 10
    for result in sink.results:
        assert result.decoded["depth"][24, 32] == pytest.approx(result.frame.image[0, 0, 0] / 25.5, abs=0.02)


def test_an_open_batch_is_one_unless_asked_and_a_fixed_one_is_not_changed() -> None:
    engine = FakeEngine(dynamic=True)
    run_pipeline(FakeSource(4), engine, [FakeSink()])
    run_pipeline(FakeSource(4), engine, [FakeSink()], batch=2)

    assert engine.batches == [1, 1, 1, 1, 2, 2]
    with pytest.raises(ConfigError, match="takes 1 frames at once; got 2"):
        run_pipeline(FakeSource(4), FakeEngine(), [FakeSink()], batch=2)


def test_the_limit_ends_the_run_early_and_well() -> None:
    source, sink = FakeSource(1000), FakeSink()

    report = run_pipeline(source, FakeEngine(), [sink], limit=5)

    assert report.frames == len(sink.results) == 5
    assert (sink.closed, source.closed) == (1, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 3])
def test_a_network_that_overflows_is_refused_by_the_outputs_name(bad: float, at: int) -> None:
    engine = FakeEngine()

    def overflow(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if len(engine.batches) - 1 == at:
            outputs["normals"][0, 1, 2, 3] = bad
        return outputs

    engine.output = overflow
    with pytest.raises(ModelFileError, match="'normals' holds NaN or infinity"):
        run_pipeline(FakeSource(5), engine, [FakeSink()])


def test_what_source_and_sink_remark_is_in_the_report() -> None:
    source, sink = FakeSource(2), FakeSink()
    source.remarks.problems.append("one part is missing")
    sink.seconds = {"draw": 1.5}  # type: ignore[attr-defined]

    report = run_pipeline(source, FakeEngine(), [sink])

    assert report.problems == ["one part is missing"]
    assert report.parts["draw"] == 1.5
    assert report.to_dict()["bottleneck"] == report.bottleneck


@pytest.mark.parametrize(("mode", "refused"), [("letterbox", False), ("stretch", False), ("crop", True)])
def test_the_fit_is_one_of_those_there_are(mode: str, refused: bool) -> None:
    if refused:
        with pytest.raises((ConfigError, InputError), match="crop"):
            run_pipeline(FakeSource(1), FakeEngine(), [FakeSink()], fit=mode)  # type: ignore[arg-type]
    else:
        assert run_pipeline(FakeSource(1), FakeEngine(), [FakeSink()], fit=mode).frames == 1  # type: ignore[arg-type]


def test_a_stopped_channel_frees_both_sides() -> None:
    channel: Channel[int] = Channel(1)
    outcome: list[str] = []

    def fill() -> None:
        try:
            while True:
                channel.put(0)
        except Stopped:
            outcome.append("put")

    filler = threading.Thread(target=fill)
    filler.start()
    channel.stop()
    filler.join(SOON_S)

    assert outcome == ["put"]
    with pytest.raises(Stopped):
        next(iter(channel))


def test_an_ended_channel_still_delivers_what_waits() -> None:
    channel: Channel[int] = Channel(3)
    items: Iterator[int] = iter(channel)
    channel.put(1)
    channel.put(2)
    channel.end()

    assert list(items) == [1, 2]
