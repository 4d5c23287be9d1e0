"""The source's sound, taken along into the output video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av

from nddr_deploy.inference.addresses import reason
from nddr_deploy.inference.base import Remarks, SourceInfo

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

# What is copied as it is. In MP4 these are what browsers play; Matroska holds anything.
COPIED: dict[str, frozenset[str] | None] = {
    ".mp4": frozenset({"aac", "mp3", "opus", "flac", "ac3", "eac3", "alac"}),
    ".mov": frozenset({"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_f32le"}),
    ".mkv": None,
}

USUAL_LAYOUTS = {1: "mono", 2: "stereo", 4: "quad", 5: "5.0", 6: "5.1", 8: "7.1"}


class AudioTrack:
    """Every audio track of a media file, copied as it is; re-encoded as AAC where the output cannot hold it.

    Args:
        output: an open container to which nothing has been written yet.
        media: `info.media`, which is opened a second time here.
        info: of the source.
        suffix: of the output file.
        remarks: where re-encoding and damage are told.
    """

    def __init__(self, output: OutputContainer, media: str, info: SourceInfo, suffix: str, remarks: Remarks) -> None:
        from nddr_deploy.inference.video import open_container

        self._remarks = remarks
        self._damaged = 0
        self._name = info.name
        self._output = output
        self._offset_s = max(info.start_s, Fraction(0))
        self._input: InputContainer = open_container(media, info.name)
        self._write: dict[int, Callable[[Packet[AudioStream]], None]] = {}
        self._flush: list[Callable[[], None]] = []
        allowed = COPIED[suffix]
        for stream in self._input.streams.audio:
            context: Any = stream.codec_context  # None where this FFmpeg has no decoder, whatever the annotation says
            if context is None:
                remarks.notes.append(f"{info.name}: an audio track of an unknown kind was left out.")
            elif allowed is None or context.name in allowed:
                self._write[stream.index] = self._copier(stream)
            else:
                remarks.notes.append(
                    f"{info.name}: its {context.name} audio has no place in {suffix}; re-encoded as AAC."
                )
                self._write[stream.index] = self._encoder(stream)
        self._packets = self._all_packets()
        self._next: Packet[AudioStream] | None = next(self._packets, None)

    def _copier(self, stream: AudioStream) -> Callable[[Packet[AudioStream]], None]:
        target = self._output.add_stream_from_template(stream)

        def copy(packet: Packet[AudioStream]) -> None:
            offset = round(self._offset_s / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - offset
            packet.dts = None if packet.dts is None else packet.dts - offset
            packet.stream = target
            self._output.mux(packet)

        return copy

    def _encoder(self, stream: AudioStream) -> Callable[[Packet[AudioStream]], None]:
        target = self._output.add_stream("aac", rate=stream.codec_context.sample_rate)
        layout = stream.codec_context.layout
        unnamed = " channels" in layout.name  # a file that says how many, not where they belong
        target.codec_context.layout = USUAL_LAYOUTS.get(layout.nb_channels, "stereo") if unnamed else layout

        def encode(packet: Packet[AudioStream]) -> None:
            for frame in packet.decode():
                if frame.pts is not None and frame.time_base:
                    frame.pts -= round(self._offset_s / frame.time_base)
                self._output.mux(target.encode(frame))

        self._flush.append(lambda: self._output.mux(target.encode(None)))
        return encode

    def _all_packets(self) -> Iterator[Packet[AudioStream]]:
        tracks = [stream for stream in self._input.streams.audio if stream.index in self._write]
        if not tracks:
            return
        try:
            for packet in self._input.demux(*tracks):
                if packet.size and packet.dts is not None:
                    yield cast("Packet[AudioStream]", packet)
        except av.FFmpegError as error:
            self._remarks.problems.append(f"{self._name}: its audio breaks off ({reason(error)}).")

    def copy_until(self, time_s: Fraction | None) -> None:
        """Write what begins before a time of the output, so that sound and pictures lie near each other in the file."""
        while self._next is not None and (time_s is None or self._time_s(self._next) < time_s):
            packet, self._next = self._next, None
            try:
                self._write[packet.stream_index](packet)
            except av.error.InvalidDataError:  # other errors are the output's
                self._damaged += 1
            self._next = next(self._packets, None)

    def _time_s(self, packet: Packet[AudioStream]) -> Fraction:
        stamp = packet.pts if packet.pts is not None else packet.dts
        return (stamp or 0) * packet.time_base - self._offset_s

    def finish(self, end_s: Fraction | None) -> None:
        """Write the rest, up to a time of the output; None: all of it."""
        self.copy_until(end_s)
        for flush in self._flush:
            flush()
        if self._damaged:
            self._remarks.problems.append(f"{self._name}: {self._damaged} damaged parts of its audio were left out.")
        self.close()

    def close(self) -> None:
        with suppress(av.FFmpegError):
            self._input.close()
