"""examples/cameras.py: one pass for all cameras, and each camera's results as if it were alone."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from queue import Queue
from threading import Condition
from types import ModuleType
from typing import Any

import av
import cv2
import numpy as np
import pytest
from inference_fakes import FakeEngine, FakeSource
from media import grey_frames, write_video

from nddr_deploy.command import run_command
from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import UnreadableError
from nddr_deploy.inference.base import Frame, Remarks, SourceInfo

EXAMPLE = Path(__file__).parents[2] / "examples" / "cameras.py"


@pytest.fixture(scope="module")
def cameras() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("cameras", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cameras"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["cameras"]


@pytest.fixture
def batches(cameras: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures went into each pass."""
    sizes: list[int] = []
    original = cameras.run_batch

    def counted(engine: Engine, frames: list[Frame]) -> Any:
        sizes.append(len(frames))
        return original(engine, frames)

    monkeypatch.setattr(cameras, "run_batch", counted)
    return sizes


class LiveFake:
    """A camera that shows a picture when the test says so. None ends it, an error breaks it."""

    def __init__(self, name: str = "camera 0") -> None:
        self.info = SourceInfo(name, "live", rate=Fraction(25), time_base=Fraction(1, 25))
        self.remarks = Remarks()
        self.shown: Queue[int | Exception | None] = Queue()

    def __iter__(self) -> Iterator[Frame]:
        while (number := self.shown.get(timeout=30)) is not None:
            if isinstance(number, Exception):
                raise number
            yield Frame(np.full((48, 64, 3), number, dtype=np.uint8), number, Fraction(number, 25), f"{number:06d}")

    def close(self) -> None:
        self.shown.put(None)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.005)


def indices(taken: list[tuple[Any, Frame]]) -> list[tuple[str, int]]:
    return [(camera.source.info.name, frame.index) for camera, frame in taken]


def coloured_frames(count: int, size_hw: tuple[int, int], seed: int) -> list[np.ndarray]:
    """Large patches of random colours: a result of another camera or of another frame would look quite different."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 3), dtype=np.uint8)
    return [cv2.resize(frame, size_hw[::-1], interpolation=cv2.INTER_NEAREST) for frame in small]


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_the_documented_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 150


def test_videos_of_different_lengths_and_sizes_share_passes_and_get_the_results_they_get_alone(
    cameras: ModuleType, handmade: Any, batches: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(handmade(dynamic=("batch",), size_hw=(48, 64)).path)
    wide = str(write_video(tmp_path / "wide.mp4", coloured_frames(7, (72, 160), seed=1)))
    tall = str(write_video(tmp_path / "tall.mp4", coloured_frames(4, (120, 96), seed=2)))
    for name, sources in (("wide", [wide]), ("tall", [tall]), ("both", [wide, tall])):
        batches.clear()
        assert cameras.main([model, *sources, "--output", str(tmp_path / name)]) == 0

    assert batches == [2, 2, 2, 2, 1, 1, 1]  # the batch shrinks when the shorter one has ended
    assert "7 passes, 1.57 pictures each" in capsys.readouterr().out
    for together, alone, shape in (("1-wide", "wide", (7, 72, 160, 3)), ("2-tall", "tall", (4, 120, 96, 3))):
        found = pictures(tmp_path / "both" / f"{together}.mp4")
        expected = pictures(tmp_path / alone / f"1-{alone}.mp4")
        assert found.shape == shape
        # a larger batch may round an output's last bit differently, and a drawn colour by one; the coding adds one
        assert np.abs(found.astype(int) - expected).max() <= 2


def test_a_frame_of_every_file_is_used_and_in_order(cameras: ModuleType) -> None:
    news = Condition()
    files = [cameras.Camera(FakeSource(count), news) for count in (5, 2)]

    taken = list(cameras.rounds(files, news))

    assert [[frame.index for _, frame in pictures] for pictures in taken] == [[0, 0], [1, 1], [2], [3], [4]]


def test_only_the_newest_picture_of_a_live_camera_is_used_and_one_without_is_left_out(cameras: ModuleType) -> None:
    news = Condition()
    left, right = LiveFake("left"), LiveFake("right")
    both = [cameras.Camera(source, news) for source in (left, right)]
    following = cameras.rounds(both, news)

    for number in (1, 2, 3):
        left.shown.put(number)
    until(lambda: both[0].frame is not None and both[0].frame.index == 3)
    assert indices(next(following)) == [("left", 3)]

    left.shown.put(4)
    right.shown.put(9)
    until(lambda: None not in (both[0].frame, both[1].frame))
    assert indices(next(following)) == [("left", 4), ("right", 9)]

    left.shown.put(None)
    right.shown.put(10)
    until(lambda: both[0].ended and both[1].frame is not None)
    assert indices(next(following)) == [("right", 10)]

    right.shown.put(None)
    assert list(following) == []


def test_files_do_not_wait_for_a_camera(cameras: ModuleType) -> None:
    news = Condition()
    camera, file = LiveFake(), FakeSource(2)
    both = [cameras.Camera(source, news) for source in (camera, file)]

    following = cameras.rounds(both, news)
    assert indices(next(following)) == [("fake", 0)]
    assert indices(next(following)) == [("fake", 1)]

    camera.shown.put(7)
    assert indices(next(following)) == [("camera 0", 7)]
    camera.shown.put(None)
    assert list(following) == []


def test_a_camera_that_is_lost_does_not_end_the_others_and_is_told(
    cameras: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = LiveFake()
    broken.shown.put(1)
    broken.shown.put(UnreadableError("camera 0 was unplugged."))
    clip = write_video(tmp_path / "clip.mp4", grey_frames(6))
    opened = cameras.open_source
    monkeypatch.setattr(cameras, "open_source", lambda spec: broken if spec == "camera:0" else opened(spec))
    monkeypatch.setattr(cameras, "open_engine", lambda model, backend: FakeEngine(dynamic=True))

    status = cameras.main(["model.onnx", str(clip), "camera:0", "--output", str(tmp_path / "out")])

    assert status == 1
    assert "error: camera 0 was unplugged." in capsys.readouterr().err
    assert len(pictures(tmp_path / "out" / "1-clip.mp4")) == 6


def test_an_engine_that_fails_leaves_no_files(
    cameras: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(dynamic=True)
    engine.fail_at = 2
    clip = write_video(tmp_path / "clip.mp4", grey_frames(6))
    monkeypatch.setattr(cameras, "open_engine", lambda model, backend: engine)

    with pytest.raises(RuntimeError, match="the engine broke"):
        cameras.main(["model.onnx", str(clip), "--output", str(tmp_path / "out")])

    assert list((tmp_path / "out").iterdir()) == []


def test_ctrl_c_ends_and_keeps_what_was_recorded(
    cameras: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, rounds = cameras.rounds, []

    def interrupted(*arguments: Any) -> Iterator[Any]:
        for taken in original(*arguments):
            if len(rounds) == 3:
                raise KeyboardInterrupt
            rounds.append(taken)
            yield taken

    clip = write_video(tmp_path / "clip.mp4", grey_frames(6))
    monkeypatch.setattr(cameras, "rounds", interrupted)
    monkeypatch.setattr(cameras, "open_engine", lambda model, backend: FakeEngine(dynamic=True))

    assert cameras.main(["model.onnx", str(clip), "--output", str(tmp_path / "out")]) == 0

    assert len(pictures(tmp_path / "out" / "1-clip.mp4")) == 3


def test_wrong_inputs_are_one_sentence_and_status_2(
    cameras: ModuleType, handmade: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed, open_batch = str(handmade(batch=2).path), str(handmade(dynamic=("batch",)).path)
    clip = str(write_video(tmp_path / "clip.mp4", grey_frames(2)))
    picture = str(tmp_path / "picture.png")
    cv2.imwrite(picture, grey_frames(1)[0])
    out = str(tmp_path / "out")
    for arguments, sentence in (
        ([fixed, clip, "--output", out], "takes 2 at once; expected an open batch. Export it with: nddr-export CHECK"),
        ([open_batch, "nothing.mp4", "--output", out], "The input 'nothing.mp4' does not exist."),
        ([open_batch, clip, picture, "--output", out], "holds pictures. Expected a video, camera:0"),
        ([open_batch, clip, "--output", str(tmp_path)], "holds the input"),
        (["missing.onnx", clip, "--output", out], "missing.onnx does not exist"),
    ):
        assert run_command(cameras.main, arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert sentence in said
        assert said.count("\n") == 1
    assert not Path(out).exists()
