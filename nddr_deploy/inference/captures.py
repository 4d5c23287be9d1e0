"""Connections to live pictures: a stream behind an address, a camera of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nddr_deploy.errors import UnreadableError
from nddr_deploy.inference.addresses import display_address, reason, scheme_of
from nddr_deploy.preprocess import Image

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from nddr_deploy.inference.upright import Upright

STREAM_OPTIONS = {"fflags": "nobuffer"}
RTSP_OPTIONS = {"rtsp_transport": "tcp"}  # over UDP, lost packets tear pictures


class Capture(Protocol):
    """One connection. `rate` is nominal, None where nothing tells."""

    rate: Fraction | None

    def read(self) -> Image:
        """Wait for the next picture, RGB uint8 (H, W, 3).

        Raises:
            UnreadableError: the connection is lost or has ended.
        """

    def close(self) -> None: ...


class StreamCapture:
    """A live stream through FFmpeg.

    Raises:
        UnreadableError: nothing answers at the address within seconds, or no video comes.
    """

    def __init__(self, address: str) -> None:
        from nddr_deploy.inference.video import open_container, video_stream

        self._name = display_address(address)
        options = STREAM_OPTIONS | (RTSP_OPTIONS if scheme_of(address).startswith("rtsp") else {})
        self._container = open_container(address, self._name, options)
        try:
            self._stream = video_stream(self._container, self._name)
            self._stream.thread_type = "SLICE"  # frame threads would hold pictures back
        except BaseException:
            self._container.close()
            raise
        self.rate = self._stream.average_rate or self._stream.guessed_rate
        self._frames = self._decode()
        self._upright: Upright | None = None

    def _decode(self) -> Iterator[VideoFrame]:
        import av

        for packet in self._container.demux(self._stream):
            try:
                yield from packet.decode()
            except av.FFmpegError:
                continue  # a damaged part of a live stream: the next picture comes soon

    def read(self) -> Image:
        import av

        from nddr_deploy.inference.upright import Upright

        try:
            frame = next(self._frames, None)
        except av.FFmpegError as error:
            raise UnreadableError(f"{self._name}: the stream is lost ({reason(error)}).") from error
        if frame is None:
            raise UnreadableError(f"{self._name}: the stream has ended.")
        if self._upright is None:
            self._upright = Upright(self._stream, frame)
        return self._upright.rgb(frame)

    def close(self) -> None:
        self._container.close()


class CameraCapture:
    """A camera of this machine, through OpenCV: FFmpeg as it comes with PyAV has no camera devices.

    Raises:
        UnreadableError: there is no such camera, or another program holds it.
    """

    def __init__(self, number: int) -> None:
        import cv2

        self._name = f"camera {number}"
        device = Path(f"/dev/video{number}")
        if Path("/dev").is_dir() and not device.exists() and _is_linux():
            found = ", ".join(sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video[0-9]*")))
            raise UnreadableError(f"There is no camera {number} ({device}). Cameras here: {found or 'none'}.")
        self._camera = cv2.VideoCapture(number)
        if not self._camera.isOpened():
            raise UnreadableError(f"Camera {number} cannot be opened. Another program may hold it; close that first.")
        self._camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        rate = self._camera.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(rate).limit_denominator(1001) if rate > 0 else None

    def read(self) -> Image:
        works, bgr = self._camera.read()
        if not works:
            raise UnreadableError(f"{self._name} gives no pictures any more.")
        return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)

    def close(self) -> None:
        self._camera.release()


def _is_linux() -> bool:
    import sys

    return sys.platform.startswith("linux")
