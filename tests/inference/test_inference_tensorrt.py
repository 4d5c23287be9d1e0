"""A TensorRT engine in the pipeline, on a simulated GPU: the results of ONNX Runtime, in order, and nothing in flight
when a run is over, however it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from inference_fakes import FakeSink
from media import write_video
from simulated.gpu import Work
from simulated.simulate import VERSIONS, Machine, simulate

from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.trt import TensorRTEngine
from nddr_deploy.errors import InputError, NddrError
from nddr_deploy.inference.__main__ import main
from nddr_deploy.inference.base import Frame, Remarks, Result, SourceInfo
from nddr_deploy.inference.live import LiveSource
from nddr_deploy.inference.pipeline import run_pipeline
from nddr_deploy.inference.run import infer

SIZE = (32, 48)
SEEDS = range(3)  # the order in which the GPU does things


@pytest.fixture(scope="session")
def built(handmade: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Path]]:
    """`built(version, batch=(1, 2, 4), outputs="raw")` -> the model and its plan in fp32, built once each."""

    @cache
    def pair(version: str, *, outputs: str = "raw", batch: tuple[int, ...] | None = None) -> tuple[Path, Path]:
        model = handmade(size_hw=SIZE, dynamic=("batch",) if batch else ()).path
        plan = tmp_path_factory.mktemp("plan") / "model.trt"
        with simulate(version):
            build_engine(model, plan, precision="fp32", outputs=outputs, batch=batch, timing_cache=None)
        return model, plan

    return pair


def frames(count: int, size_hw: tuple[int, int] = SIZE) -> list[Any]:
    """Coarse noise, each frame unlike the others."""
    height, width = size_hw[0] // 8, size_hw[1] // 8
    noise = np.random.default_rng(7).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return list(noise.repeat(8, axis=1).repeat(8, axis=2))


class Frames:
    """A source of `frames`; may fail at one of them."""

    def __init__(self, count: int = 1, *, images: list[Any] | None = None, fail_at: int | None = None) -> None:
        self.info = SourceInfo("noise", "video", frames=count, rate=Fraction(25), time_base=Fraction(1, 25))
        self.remarks = Remarks()
        self._images, self._fail_at = images or frames(count), fail_at

    def __iter__(self) -> Iterator[Frame]:
        for index, image in enumerate(self._images):
            if index == self._fail_at:
                raise RuntimeError("the source broke")
            yield Frame(image, index, Fraction(index, 25), f"{index:06d}")

    def close(self) -> None:
        pass


def in_flight(machine: Machine) -> list[str]:
    return [entry.what for stream in machine.gpu.streams for entry in stream.queue if isinstance(entry, Work)]


def check_results(results: list[Result], expected: list[Result]) -> None:
    """One by one, each head: labels equal, the rest within what float32 sums of a few products differ by."""
    assert [result.frame.index for result in results] == [result.frame.index for result in expected]
    for one, other in zip(results, expected, strict=True):
        assert np.array_equal(one.frame.image, other.frame.image)
        check_heads(one.decoded, other.decoded)


def check_heads(found: Any, expected: Any) -> None:
    assert list(found) == list(expected) == ["segmentation", "normals", "age"]
    for name in found:
        one, other = np.asarray(found[name]), np.asarray(expected[name])
        assert one.shape == other.shape, name
        if one.dtype.kind in "ui":
            assert np.array_equal(one, other), name
        else:
            assert np.allclose(one, other, atol=1e-4, equal_nan=True), name


def by_onnx_runtime(model: Path, source: Any, **options: Any) -> list[Result]:
    sink = FakeSink()
    with open_engine(model, "onnxruntime", threads=1) as engine:
        run_pipeline(source, engine, [sink], **options)
    assert len({result.decoded["age"].tobytes() for result in sink.results}) == len(sink.results)  # all differ
    return sink.results


@pytest.mark.parametrize("outputs", ["raw", "decoded"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_video_gives_what_onnx_runtime_gives(
    built: Callable[..., Any], tmp_path: Path, version: str, outputs: str
) -> None:
    model, plan = built(version, outputs=outputs)
    clip = write_video(tmp_path / "clip.mp4", frames(9))
    assert infer(model, clip, tmp_path / "onnx", format="npz").frames == 9

    with simulate(version) as machine:
        report = infer(plan, clip, tmp_path / "trt", format="npz")
        assert in_flight(machine) == []
        assert machine.world.contexts == 0

    assert (report.frames, report.problems) == (9, [])
    names = sorted(path.name for path in (tmp_path / "onnx").iterdir())
    assert sorted(path.name for path in (tmp_path / "trt").iterdir()) == names
    assert len([name for name in names if name.endswith(".npz")]) == 9
    for name in names:
        one, other = np.load(tmp_path / "trt" / name), np.load(tmp_path / "onnx" / name)
        for key in other.files:
            assert np.allclose(one[key], other[key], atol=1e-4, equal_nan=True), (name, key)


@pytest.mark.parametrize("size_hw", [SIZE, (64, 40)])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_folder_of_pictures_of_any_size_through_the_command(
    built: Callable[..., Any], tmp_path: Path, version: str, size_hw: tuple[int, int], capsys: Any
) -> None:
    model, plan = built(version, batch=(1, 2, 4))
    (tmp_path / "photos").mkdir()
    for place, image in enumerate(frames(5, size_hw)):
        cv2.imwrite(str(tmp_path / "photos" / f"{place}.png"), image)
    shared = ["--input", str(tmp_path / "photos"), "--format", "npz", "--batch", "2"]
    assert main(["--engine", str(model), "--output", str(tmp_path / "onnx"), *shared]) == 0
    capsys.readouterr()

    with simulate(version):
        status = main(["--engine", str(plan), "--output", str(tmp_path / "trt"), *shared])

    said = capsys.readouterr()
    assert (status, said.err) == (0, "")
    assert "5 frames" in said.out or "5 pictures" in said.out
    for place in range(5):
        one, other = (np.load(tmp_path / side / f"{place}.npz") for side in ("trt", "onnx"))
        assert one.files == other.files
        for key in other.files:
            assert np.allclose(one[key], other[key], atol=1e-4, equal_nan=True), (place, key)


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("version", VERSIONS)
def test_frames_keep_their_order_and_their_results_with_any_number_of_slots(
    built: Callable[..., Any], version: str, slots: int, batch: int
) -> None:
    model, plan = built(version, batch=(1, 2, 4))
    expected = by_onnx_runtime(model, Frames(11), batch=batch)  # the last pass is filled up

    for seed in SEEDS:
        sink = FakeSink()
        with simulate(version, seed=seed) as machine, TensorRTEngine(plan, slots=slots) as engine:
            report = run_pipeline(Frames(11), engine, [sink], batch=batch)
            assert in_flight(machine) == []
            assert machine.gpu.most_in_flight <= slots

        assert report.frames == 11
        check_results(sink.results, expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_passes_overlap_in_a_file(built: Callable[..., Any], version: str) -> None:
    _, plan = built(version)

    with simulate(version) as machine, TensorRTEngine(plan) as engine:
        run_pipeline(Frames(20), engine, [FakeSink()])
        assert machine.gpu.most_in_flight == 2


@pytest.mark.parametrize("slots", [2, 3])
@pytest.mark.parametrize("stage", ["source", "sink", "user"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_stage_that_fails_ends_the_run_within_seconds_and_leaves_nothing_in_flight(
    built: Callable[..., Any], version: str, stage: str, slots: int
) -> None:
    _, plan = built(version, batch=(1, 2, 4))

    def press(done: int) -> None:
        if stage == "user" and done >= 3:
            raise KeyboardInterrupt

    for seed in SEEDS:
        sink = FakeSink(fail_at=4 if stage == "sink" else None, delay_s=0.01 if stage == "user" else 0)
        source = Frames(60, fail_at=9 if stage == "source" else None)
        start = time.perf_counter()
        with simulate(version, seed=seed) as machine:
            with TensorRTEngine(plan, slots=slots) as engine:
                with pytest.raises((RuntimeError, KeyboardInterrupt)) as caught:
                    run_pipeline(source, engine, [sink], batch=2, progress=press)
                assert in_flight(machine) == []
                again = FakeSink()
                assert run_pipeline(Frames(3), engine, [again]).frames == 3  # it is free for the next run
            assert machine.world.contexts == 0

        assert (
            "KeyboardInterrupt" in repr(caught.value) if stage == "user" else f"the {stage} broke" in str(caught.value)
        )
        assert time.perf_counter() - start < 5
        assert (sink.closed, sink.aborted) == (0, 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_gpu_that_breaks_down_ends_the_run_with_a_sentence(built: Callable[..., Any], version: str) -> None:
    _, plan = built(version)
    sink, start = FakeSink(), time.perf_counter()

    class Breaking(FakeSink):
        def write(self, result: Result) -> None:
            super().write(result)
            if len(self.results) == 5:
                machine.gpu.broken = "cudaErrorIllegalAddress"

    with (
        pytest.raises(NddrError, match="cudaErrorIllegalAddress"),  # around it all: closing goes wrong, too
        simulate(version) as machine,
        TensorRTEngine(plan) as engine,
    ):
        run_pipeline(Frames(1000), engine, [sink, Breaking()])

    assert len(sink.results) < 1000
    assert time.perf_counter() - start < 8
    assert (sink.closed, sink.aborted) == (0, 1)


class Camera:
    """A picture every few milliseconds, each unlike the others."""

    rate = Fraction(200)

    def __init__(self) -> None:
        self.taken = 0
        self._images = frames(50)

    def read(self) -> Any:
        time.sleep(0.003)
        self.taken += 1
        return self._images[self.taken % 50]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("version", VERSIONS)
def test_a_live_source_shows_the_result_of_the_newest_picture(built: Callable[..., Any], version: str) -> None:
    model, plan = built(version)
    sink = FakeSink()

    with simulate(version) as machine:
        with TensorRTEngine(plan, slots=3) as engine:
            report = run_pipeline(LiveSource(Camera, "fake"), engine, [sink], limit=12)
            assert in_flight(machine) == []
        assert machine.gpu.most_in_flight == 1  # a result is not held back until the next picture comes

    assert report.frames == 12
    assert [result.frame.index for result in sink.results] == sorted(result.frame.index for result in sink.results)
    with open_engine(model, "onnxruntime", threads=1) as reference:
        for result in sink.results:
            one = FakeSink()
            run_pipeline(Frames(images=[result.frame.image]), reference, [one])
            check_heads(result.decoded, one.results[0].decoded)


@pytest.mark.parametrize("version", VERSIONS)
def test_ctrl_c_on_a_live_source_keeps_what_was_recorded(built: Callable[..., Any], version: str) -> None:
    _, plan = built(version)
    sink, pressed = FakeSink(), []

    def press(done: int) -> None:
        if done >= 3 and not pressed:
            pressed.append(done)
            raise KeyboardInterrupt

    with simulate(version) as machine, TensorRTEngine(plan) as engine:
        report = run_pipeline(LiveSource(Camera, "fake"), engine, [sink], progress=press)
        assert in_flight(machine) == []

    assert report.stopped
    assert report.frames == len(sink.results) >= 3
    assert (sink.closed, sink.aborted) == (1, 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_batch_outside_the_profile_is_refused_with_what_it_takes(built: Callable[..., Any], version: str) -> None:
    _, plan = built(version, batch=(1, 2, 4))

    with simulate(version) as machine, TensorRTEngine(plan) as engine:
        with pytest.raises(InputError, match=r"\(1 to 4, 32, 48, 3\); got uint8 \(5, 32, 48, 3\)"):
            run_pipeline(Frames(20), engine, [FakeSink()], batch=5)
        assert in_flight(machine) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_video_becomes_a_drawn_video_through_the_command(
    built: Callable[..., Any], tmp_path: Path, version: str, capsys: Any
) -> None:
    import av

    _, plan = built(version, outputs="decoded")
    clip = write_video(tmp_path / "clip.mp4", frames(9, (120, 160)))

    with simulate(version):
        status = main(["--engine", str(plan), "--input", str(clip), "--output", str(tmp_path / "out.mp4")])

    assert (status, capsys.readouterr().err) == (0, "")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.height, stream.width) == (9, 120, 160)


def test_a_run_on_a_machine_without_a_gpu_writes_nothing(
    built: Callable[..., Any], tmp_path: Path, capsys: Any
) -> None:
    _, plan = built("10.13")
    clip = write_video(tmp_path / "clip.mp4", frames(3))

    with simulate(count=0):
        status = main(["--engine", str(plan), "--input", str(clip), "--output", str(tmp_path / "out.mp4")])

    said = capsys.readouterr().err
    assert status == 2
    assert said.count("\n") == 1
    assert "No NVIDIA GPU can be used here" in said
    assert not (tmp_path / "out.mp4").exists()
