"""Videos that are written: the source's frames, times, size, shape and sound, and nothing half-done."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from inference_fakes import FakeEngine
from media import corner_names, corners, grey_frames, number_of, write_video

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.inference.base import Frame, Result, SourceInfo
from nddr_deploy.inference.pipeline import run_pipeline
from nddr_deploy.inference.report import RunReport
from nddr_deploy.inference.sinks import find_output, open_sink
from nddr_deploy.inference.sources import open_source
from nddr_deploy.inference.video_sink import VideoSink
from nddr_deploy.preprocess import Image


def frame_of(result: Result) -> Image:
    return result.frame.image


def copy(source_path: Path, output: Path, **options: int) -> RunReport:
    """Through the whole pipeline, drawing nothing: the output shows the source."""
    source = open_source(source_path)
    sink = open_sink(find_output(output), source.info, FakeEngine().manifest.tasks, frame_of)
    return run_pipeline(source, FakeEngine(), [sink], **options)  # type: ignore[arg-type]


def read(path: Path) -> tuple[av.video.stream.VideoStream, list[Fraction], list[Image]]:
    container = av.open(str(path))
    stream = container.streams.video[0]
    frames = list(container.decode(stream))
    assert stream.time_base is not None
    times = [(frame.pts or 0) * stream.time_base for frame in frames]
    return stream, times, [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames]


def audio_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        return [((packet.pts or 0) * packet.time_base, bytes(packet)) for packet in packets]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("rate", [25, 10])
def test_count_rate_size_and_order_are_the_sources(tmp_path: Path, suffix: str, rate: int) -> None:
    clip = write_video(tmp_path / "clip.mp4", grey_frames(17), rate=rate, time_base=Fraction(1, 12800))

    report = copy(clip, tmp_path / f"out{suffix}")

    before, before_times, _ = read(clip)
    after, times, pictures = read(tmp_path / f"out{suffix}")
    assert report.paths == [tmp_path / f"out{suffix}"]
    assert [number_of(picture) for picture in pictures] == list(range(17))
    assert after.average_rate == before.average_rate == rate
    assert (after.width, after.height) == (before.width, before.height)
    tolerance = Fraction(1, 1000) if suffix == ".mkv" else 0  # Matroska counts milliseconds
    assert all(abs(a - b) <= tolerance for a, b in zip(times, before_times, strict=True))
    assert (after.codec_context.name, after.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_irregular_times_stay_exact(tmp_path: Path) -> None:
    stamps = [0, 512, 1024, 3072, 3073, 9999, 20000]
    options = {
        "codec": "mjpeg",
        "pixels": "yuvj420p",
    }  # without B-frames: the last packet is the last picture, unlike in the output
    clip = write_video(tmp_path / "clip.mp4", grey_frames(7), stamps=stamps, time_base=Fraction(1, 15360), **options)

    copy(clip, tmp_path / "out.mp4")

    before, _, _ = read(clip)
    after, times, pictures = read(tmp_path / "out.mp4")
    assert times == [Fraction(stamp, 15360) for stamp in stamps]
    assert (after.average_rate, after.duration) == (before.average_rate, before.duration)
    steps = np.diff([picture.mean() for picture in pictures])
    assert np.abs(steps - 5).max() < 2.5, "each frame is 5 brighter than the one before; coding moves it by about 1"


def test_an_odd_side_is_padded_by_one_pixel_and_said_so(tmp_path: Path) -> None:
    frames = [corners((47, 63))] * 3
    clip = write_video(tmp_path / "clip.mkv", frames, codec="ffv1", pixels="bgr0")

    report = copy(clip, tmp_path / "out.mp4")

    stream, _, pictures = read(tmp_path / "out.mp4")
    assert (stream.height, stream.width) == (48, 64)
    assert corner_names(pictures[0]) == "RG BW"
    assert pictures[0][-1, -1].min() > 200, "the last pixels are repeated, not black"
    assert any("63x47" in note and "padded by one pixel to 64x48" in note for note in report.notes)


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    frames = [corners((48, 64))] * 3
    clip = write_video(tmp_path / "clip.mp4", frames, sample_aspect=Fraction(3, 2), time_base=Fraction(1, 12800))
    source = open_source(clip)

    assert next(iter(source)).image.shape == (48, 96, 3), "what the network and the layout see has square pixels"
    copy(clip, tmp_path / "out.mp4")

    stream, _, pictures = read(tmp_path / "out.mp4")
    assert (stream.height, stream.width, stream.sample_aspect_ratio) == (48, 64, Fraction(3, 2))
    assert corner_names(pictures[0]) == "RG BW"


def test_a_rotated_video_comes_out_upright_without_rotation(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [corners((48, 64))] * 3, rotation=90, time_base=Fraction(1, 12800))
    shown = next(iter(open_source(clip))).image

    copy(clip, tmp_path / "out.mp4")

    stream, _, pictures = read(tmp_path / "out.mp4")
    assert (stream.height, stream.width) == (64, 48)
    assert corner_names(pictures[0]) == corner_names(shown) != "RG BW"
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_colours_survive(tmp_path: Path) -> None:
    colours = [(200, 30, 40), (30, 180, 60), (20, 60, 210), (255, 255, 255), (0, 0, 0), (128, 128, 128)]
    sink = VideoSink(tmp_path / "out.mp4", info(), frame_of)
    for index, colour in enumerate(colours):
        sink.write(result(np.full((48, 64, 3), colour, np.uint8), index))
    sink.close()

    stream, _, pictures = read(tmp_path / "out.mp4")

    # 8-bit YUV and a crf of 20 move a plain colour by a few steps; the wrong matrix would move it by 15 and more
    assert np.abs(np.array([picture.mean(axis=(0, 1)) for picture in pictures]) - colours).max() < 6
    assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (1, 1)  # BT.709, 16..235


def test_audio_is_copied_packet_by_packet(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", grey_frames(12), audio=True)

    copy(clip, tmp_path / "out.mp4")

    assert audio_packets(tmp_path / "out.mp4") == audio_packets(clip) != []


def test_audio_can_be_left_out(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "clip.mp4", grey_frames(3), audio=True))
    sink = open_sink(find_output(tmp_path / "out.mp4"), source.info, (), frame_of, audio=False)

    run_pipeline(source, FakeEngine(), [sink])

    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(container.streams.audio) == 0


def test_audio_ends_with_the_pictures_where_only_some_are_done(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", grey_frames(12), audio=True)  # 0.48 s, and 0.5 s of sound

    copy(clip, tmp_path / "out.mp4", limit=5)

    times = [time for time, _ in audio_packets(tmp_path / "out.mp4")]
    assert Fraction(0) < max(times) < Fraction(5, 25)
    assert len(times) < len(audio_packets(clip))


def test_audio_that_the_format_cannot_hold_is_encoded_again_and_said_so(tmp_path: Path) -> None:
    clip = write_tone(tmp_path / "clip.mkv", "pcm_s16le")

    report = copy(clip, tmp_path / "out.mp4")
    copy(clip, tmp_path / "out.mkv")

    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        sound = np.concatenate([np.asarray(frame.to_ndarray()).ravel() for frame in container.decode(audio=0)])
    assert any("pcm_s16le" in note and "AAC" in note for note in report.notes)
    assert 0.9 < len(sound) / 8000 < 1.3
    assert np.sqrt((sound**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.15), "the tone is still there"
    assert audio_packets(tmp_path / "out.mkv")[0][1] == audio_packets(clip)[0][1]


def test_a_recording_that_begins_late_begins_at_zero_with_its_sound_in_step(tmp_path: Path) -> None:
    clip = delayed(write_video(tmp_path / "clip.mp4", grey_frames(12), audio=True), tmp_path / "late.ts", seconds=5)
    source = open_source(clip)
    first = next(iter(source)).time_s
    assert first is not None
    assert source.info.start_s > 4

    copy(clip, tmp_path / "out.mp4")

    _, times, _ = read(tmp_path / "out.mp4")
    assert times[0] < Fraction(1, 5), "sound comes 0.128 s before: the encoder's priming"
    sound, sound_before = audio_packets(tmp_path / "out.mp4"), audio_packets(clip)
    step_before = sound_before[0][0] - first
    assert abs(float((sound[0][0] - times[0]) - step_before)) < 0.002


@pytest.mark.parametrize("finished", [False, True])
def test_nothing_is_left_of_an_output_that_was_aborted_or_never_written(tmp_path: Path, finished: bool) -> None:
    sink = VideoSink(tmp_path / "out.mp4", info(), frame_of)
    if not finished:
        for index in range(100):  # the encoder looks ahead for some 50
            sink.write(result(corners(), index))
        assert [path.name[0] for path in tmp_path.iterdir()] == ["."], "until then it has a hidden name"
        sink.abort()
    sink.close() if finished else sink.abort()

    assert list(tmp_path.iterdir()) == []


def test_an_aborted_run_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"before")
    sink = VideoSink(tmp_path / "out.mp4", info(), frame_of)
    sink.write(result(corners(), 0))

    sink.abort()

    assert (tmp_path / "out.mp4").read_bytes() == b"before"


def test_a_video_needs_times(tmp_path: Path) -> None:
    pictures = SourceInfo("photos", "pictures", frames=2)

    with pytest.raises(ConfigError, match="pictures have no times"):
        open_sink(find_output(tmp_path / "out.mp4"), pictures, (), frame_of)
    sink = VideoSink(tmp_path / "out.mp4", pictures, frame_of)
    with pytest.raises(InputError, match="no time"):
        sink.write(Result(Frame(corners(), 0, None, "a"), {}))
    sink.abort()


def delayed(clip: Path, output: Path, seconds: int) -> Path:
    """The same packets, later."""
    with av.open(str(clip)) as source, av.open(str(output), "w") as container:
        streams = {stream.index: container.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None and packet.pts is not None:
                packet.pts += int(seconds / packet.time_base)
                packet.dts += int(seconds / packet.time_base)
                packet.stream = streams[packet.stream_index]
                container.mux(packet)
    return output


def info() -> SourceInfo:
    return SourceInfo("clip", "video", rate=Fraction(25), time_base=Fraction(1, 12800))


def result(image: Image, index: int) -> Result:
    return Result(Frame(image, index, Fraction(index, 25), f"{index:06d}"), {})


def write_tone(path: Path, codec: str, images: Sequence[Image] = ()) -> Path:
    """One second of pictures with a tone of 440 Hz, amplitude 0.5."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(codec, rate=8000)
        sound.codec_context.layout = "mono"
        for image in grey_frames(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
        tone = (np.sin(np.arange(8000) * 2 * np.pi * 440 / 8000) * 16384).astype(np.int16)
        for start in range(0, 8000, 800):
            chunk = av.AudioFrame.from_ndarray(tone[None, start : start + 800], format="s16", layout="mono")
            chunk.sample_rate, chunk.pts = 8000, start
            container.mux(sound.encode(chunk))
        container.mux(sound.encode(None))
    return path
