"""A video file, or a finite one behind an address: every frame, in order, at its own time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, cast

import av
from av.stream import Disposition

from nddr_deploy.errors import UnreadableError
from nddr_deploy.inference.addresses import reason
from nddr_deploy.inference.base import Frame, Remarks, SourceInfo
from nddr_deploy.inference.clock import Clock
from nddr_deploy.inference.upright import Upright

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

OPEN_S, READ_S = 10, 30  # how long a server may stay silent
DEFAULT_RATE = Fraction(25)
ENDS_EARLY_S = Fraction(1, 2)  # a track may end a little before its container says


class VideoSource:
    """Frames of a video file.

    Damage is told, not hidden: what can be decoded is yielded, and `remarks.problems` says what is missing.

    Args:
        address: a path with "file:" in front (so that no path is taken for a protocol), or a http(s) address.
        name: for people.

    Raises:
        UnreadableError: no video, or not one frame of it can be decoded.
    """

    def __init__(self, address: str, name: str) -> None:
        self.remarks = Remarks()
        self._container = open_container(address, name)
        try:
            self._stream = video_stream(self._container, name)
            self._stream.thread_type = "AUTO"  # frame threads: several times faster, at the cost of latency
            self._name = name
            self._damaged = 0
            self._corrupt = 0
            self._frames = self._decode()
            first = next(self._frames, None)
            if first is None:
                why = " ".join(self.remarks.problems) or "It may be cut off or encrypted. Copy it again."
                raise UnreadableError(f"{name}: not one frame can be decoded. {why}")
        except BaseException:
            self._container.close()
            raise
        self._first = first
        self._upright = Upright(self._stream, first)
        self.info = self._describe(address)

    def _describe(self, address: str) -> SourceInfo:
        stream, container, upright = self._stream, self._container, self._upright
        base = stream.time_base or Fraction(1, 90000)
        audio = any(track.codec_context is not None for track in container.streams.audio)
        return SourceInfo(
            name=self._name,
            kind="video",
            frames=stream.frames or None,
            rate=stream.average_rate or stream.guessed_rate,
            time_base=base,
            start_s=Fraction(container.start_time or 0, av.time_base),
            duration_s=_duration_s(stream, container),
            stored_hw=upright.stored_hw if upright.sample_aspect != 1 else None,
            sample_aspect=upright.sample_aspect,
            media=address if audio else None,
        )

    def __iter__(self) -> Iterator[Frame]:
        clock = Clock(self.info.time_base or Fraction(1, 90000), self.info.rate or DEFAULT_RATE)
        for index, frame in enumerate(chain((self._first,), self._frames)):
            self._corrupt += frame.is_corrupt
            yield Frame(self._upright.rgb(frame), index, clock.time_of(frame.pts), f"{index:06d}")
        self._tell_damage(clock)

    def _decode(self) -> Iterator[VideoFrame]:
        says_length = _says_length(self._container)
        tracks = (self._stream, *self._container.streams.audio) if says_length else (self._stream,)
        packets = self._container.demux(*tracks)
        read, end_s = 0, Fraction(0)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self.remarks.problems.append(f"{self._name}: the file breaks off ({reason(error)}).")
                break
            if packet is None:
                self._check_end(read, end_s if says_length else None)
                break
            if packet.pts is not None:
                end_s = max(end_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream_index != self._stream.index:
                continue
            read += packet.size > 0
            try:
                yield from cast("list[VideoFrame]", packet.decode())
            except av.FFmpegError:
                self._damaged += 1
        with suppress(av.FFmpegError):  # a decoder that was emptied already says so by an error
            yield from self._stream.decode(None)

    def _check_end(self, packets: int, end_s: Fraction | None) -> None:
        """Has all come that the container's head promised? Most demuxers end a cut file without an error."""
        promised_s = Fraction(self._container.duration or 0, av.time_base)
        if "mov" in self._container.format.name and packets < self._stream.frames:
            told = f"{packets} of {self._stream.frames} frames"
        elif end_s is not None and promised_s - end_s > ENDS_EARLY_S:
            told = f"{float(end_s):.1f} of {float(promised_s):.1f} s"
        else:
            return
        self.remarks.problems.append(f"{self._name}: the file is cut off: it holds {told}.")

    def _tell_damage(self, clock: Clock) -> None:
        problems, notes = self.remarks.problems, self.remarks.notes
        if self._damaged:
            problems.append(
                f"{self._name}: {self._damaged} damaged parts could not be decoded; their frames are missing."
            )
        if self._corrupt:
            problems.append(
                f"{self._name}: {self._corrupt} frames are damaged; they are used as the decoder mended them."
            )
        if clock.mended:
            notes.append(
                f"{self._name}: {clock.mended} time stamps were missing or did not increase; they were mended."
            )
        if self._upright.resized:
            height, width = self._upright.size_hw
            notes.append(
                f"{self._name}: {self._upright.resized} frames of another size were scaled to {width}x{height}."
            )

    def close(self) -> None:
        """Close the file. Not while another thread still iterates."""
        self._container.close()


def _duration_s(stream: VideoStream, container: InputContainer) -> Fraction | None:
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None


def _says_length(container: InputContainer) -> bool:
    """The length is written in the file's head, not guessed from its size."""
    return any(kind in container.format.name for kind in ("matroska", "flv"))


def open_container(address: str, name: str, options: dict[str, str] | None = None) -> InputContainer:
    """Open with time limits for servers; every failure is one sentence without the address's password."""
    timeout = None if address.startswith("file:") else (OPEN_S, READ_S)
    try:
        return av.open(address, "r", options=options or {}, timeout=timeout, metadata_errors="ignore")
    except (av.FFmpegError, OSError) as error:
        why = reason(error) if isinstance(error, av.FFmpegError) else error.strerror
        raise UnreadableError(f"{name} cannot be opened as a video: {why}.") from error


def video_stream(container: InputContainer, name: str) -> VideoStream:
    """The first track with moving pictures (a cover picture is none)."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    raise UnreadableError(f"{name} has no video track that can be decoded here; expected one.")
