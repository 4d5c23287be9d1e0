"""Results drawn into a video: H.264 that browsers play, at the source's own times."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from nddr_deploy.errors import InputError
from nddr_deploy.inference.audio import AudioTrack
from nddr_deploy.inference.base import Remarks, Result, SourceInfo
from nddr_deploy.inference.unfinished import UnfinishedFile, told_as_output
from nddr_deploy.preprocess import Image

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

VIDEO_OUTPUTS = (".mp4", ".mov", ".mkv")
ENCODER = {"crf": "20", "preset": "veryfast"}
LIVE_TIME_BASE = Fraction(1, 90000)


class VideoSink:
    """Write `draw(result)` as the frames of a video.

    The video has the drawn pictures' size (one pixel more where a side is odd: H.264 in 4:2:0 needs even ones), the
    source's time stamps, colours in BT.709, and the source's audio. Where the source's pixels are not square, so are
    the video's: the same stored and the same displayed size.

    Args:
        path: ends in .mp4, .mov or .mkv.
        info: of the source.
        draw: one result -> RGB uint8 (H, W, 3), always of one size.
        audio: take the source's audio along.
    """

    def __init__(self, path: Path, info: SourceInfo, draw: Callable[[Result], Image], *, audio: bool = True) -> None:
        self.remarks = Remarks()
        self.paths: list[Path] = []
        self.seconds = {"draw": 0.0, "encode": 0.0}
        self._path = path
        self._info = info
        self._draw = draw
        self._with_audio = audio and info.media is not None
        self._file = UnfinishedFile(path)
        self._track: _Track | None = None
        self._audio: AudioTrack | None = None

    def write(self, result: Result) -> None:
        if result.frame.time_s is None:
            raise InputError(f"{self._path}: pictures have no time. Choose a folder as output, not a video.")
        start = time.perf_counter()
        picture = self._draw(result)
        drawn = time.perf_counter()
        self.seconds["draw"] += drawn - start
        with told_as_output(self._path, av.FFmpegError):
            if self._track is None:
                self._track = self._begin(picture, result.frame.image)
            time_s = result.frame.time_s - max(self._info.start_s, Fraction(0))
            self._track.add(picture, time_s)
            if self._audio is not None:
                self._audio.copy_until(time_s)
        self.seconds["encode"] += time.perf_counter() - drawn

    def _begin(self, first: Image, frame: Image) -> _Track:
        options = {} if self._path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
        container = av.open(f"file:{self._file.temporary}", "w", options=options)
        track = _Track(container, self._info, first, (frame.shape[0], frame.shape[1]), self._remark_size)
        if self._with_audio and self._info.media is not None:
            self._audio = AudioTrack(container, self._info.media, self._info, self._path.suffix.lower(), self.remarks)
        return track

    def _remark_size(self, found: tuple[int, int], written: tuple[int, int]) -> None:
        self.remarks.notes.append(
            f"{self._path}: {found[1]}x{found[0]} has an odd side, which H.264 video cannot have; "
            f"padded by one pixel to {written[1]}x{written[0]}."
        )

    def close(self) -> None:
        start = time.perf_counter()
        if self._track is None:
            self._file.discard()
            return
        with told_as_output(self._path, av.FFmpegError):
            end_s = self._track.finish()
            if self._audio is not None:
                self._audio.finish(None if self._track.whole(end_s) else end_s)
            self._track.container.close()
            self._file.finish()
        self.paths.append(self._path)
        self.seconds["encode"] += time.perf_counter() - start

    def abort(self) -> None:
        with suppress(Exception):  # whatever state it is in, the file goes
            if self._audio is not None:
                self._audio.close()
            if self._track is not None:
                self._track.container.close()
        self._file.discard()


class _Track:
    """The H.264 track of an open container. Times are whole multiples of `base`."""

    def __init__(
        self,
        container: OutputContainer,
        info: SourceInfo,
        first: Image,
        frame_hw: tuple[int, int],
        remark_size: Callable[[tuple[int, int], tuple[int, int]], None],
    ) -> None:
        self.container = container
        self._info = info
        self._drawn_hw = first.shape[0], first.shape[1]
        as_source = info.stored_hw is not None and self._drawn_hw == frame_hw
        self._stored_hw = info.stored_hw if as_source and info.stored_hw else self._drawn_hw
        self._even_hw = self._stored_hw[0] + self._stored_hw[0] % 2, self._stored_hw[1] + self._stored_hw[1] % 2
        if self._even_hw != self._stored_hw:
            remark_size(self._stored_hw, self._even_hw)
        self._base = info.time_base or LIVE_TIME_BASE
        rate = info.rate or Fraction(25)
        self._nominal = max(round(1 / rate / self._base), 1)
        self._stream: VideoStream = container.add_stream("libx264", rate=rate, options=ENCODER)
        context = self._stream.codec_context
        context.height, context.width = self._even_hw
        context.pix_fmt = "yuv420p"
        context.sample_aspect_ratio = info.sample_aspect if as_source else Fraction(1)
        context.time_base = self._stream.time_base = self._base
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._durations: dict[int, int] = {}
        self._last: int | None = None
        self._frames = 0
        self._first_dts: int | None = None
        self._held: Packet[VideoStream] | None = None  # the last packet's duration is known only at the end

    def add(self, picture: Image, time_s: Fraction) -> None:
        frame = av.VideoFrame.from_ndarray(self._fit(picture), "rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        frame.pts = round(time_s / self._base)
        frame.time_base = self._base
        if self._last is not None:
            self._durations[self._last] = frame.pts - self._last
        self._last = frame.pts
        self._frames += 1
        self._mux(self._stream.encode(frame))

    def _fit(self, picture: Image) -> Image:
        if picture.shape[:2] != self._drawn_hw:
            picture = np.asarray(
                cv2.resize(picture, self._drawn_hw[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
        if self._stored_hw != self._drawn_hw:
            picture = np.asarray(
                cv2.resize(picture, self._stored_hw[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
        below, right = self._even_hw[0] - self._stored_hw[0], self._even_hw[1] - self._stored_hw[1]
        return np.pad(picture, ((0, below), (0, right), (0, 0)), mode="edge") if below or right else picture

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        for packet in packets:
            if self._first_dts is None:
                self._first_dts = packet.dts
            if packet.pts is not None:
                packet.duration = self._durations.pop(packet.pts, self._nominal)
            if self._held is not None:
                self.container.mux(self._held)
            self._held = packet

    def finish(self) -> Fraction:
        """Empty the encoder; returns the track's end in seconds.

        A track's length, and so its average rate, is the sum of its packets' durations in decoding order: where all
        of a source was written, the last packet gets what the source's own length leaves over.
        """
        last, length = self._last or 0, round((self._info.duration_s or 0) / self._base)
        whole = self._frames == self._info.frames and length > 0
        left = length - last
        self._durations[last] = left if whole and left > 0 else self._nominal
        end = last + self._durations[last]
        self._mux(self._stream.encode(None))
        if self._held is not None:
            left = length - ((self._held.dts or 0) - (self._first_dts or 0))
            if whole and left > 0:
                self._held.duration = left
            self.container.mux(self._held)
        return end * self._base

    def whole(self, end_s: Fraction) -> bool:
        """All of the source was written, as far as anything tells; then its audio is taken to its own end."""
        if self._info.frames is not None:
            return self._frames >= self._info.frames
        return self._info.duration_s is None or end_s > self._info.duration_s - 1
