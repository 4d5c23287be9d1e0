"""Tiny videos and pictures that tests make for themselves, with known contents."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


def grey_frames(count: int, size_hw: tuple[int, int] = (48, 64)) -> list[Image]:
    """Frame i is plain grey 20 + 5 i, so that a decoded frame tells which one it is: see `number_of`."""
    return [np.full((*size_hw, 3), 20 + 5 * number, dtype=np.uint8) for number in range(count)]


def number_of(image: Image) -> int:
    """Which of `grey_frames` a decoded frame is; coding moves its grey by less than the half step of 2.5."""
    return round((float(image.mean()) - 20) / 5)


def corners(size_hw: tuple[int, int] = (48, 64)) -> Image:
    """Red top left, green top right, blue bottom left, white bottom right: shows every turn and mirror."""
    height, width = size_hw
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[: height // 2, : width // 2] = (255, 0, 0)
    image[: height // 2, width // 2 :] = (0, 255, 0)
    image[height // 2 :, : width // 2] = (0, 0, 255)
    image[height // 2 :, width // 2 :] = (255, 255, 255)
    return image


def corner_names(image: Image) -> str:
    """The colours of the four corners of a frame made by `corners`, in reading order: "RG BW"."""
    height, width = image.shape[:2]
    names = []
    for y, x in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)):
        bright = image[int(height * y), int(width * x)] > 128
        names.append(
            {(True, False, False): "R", (False, True, False): "G", (False, False, True): "B"}.get(tuple(bright), "W")
        )
    return f"{names[0]}{names[1]} {names[2]}{names[3]}"


def write_video(
    path: Path,
    frames: Sequence[Image],
    *,
    stamps: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 1000),
    rate: int = 25,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rotation: float | None = None,
    sample_aspect: Fraction | None = None,
    audio: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames as a video; `stamps` are their times in whole `time_base`s (else they follow `rate`)."""
    height, width = frames[0].shape[:2]
    stamps = stamps or [round(number / rate / time_base) for number in range(len(frames))]
    container_options = (
        {} if path.suffix != ".mp4" else {"video_track_timescale": str(1 / time_base), **(options or {})}
    )
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.time_base = time_base
        stream.time_base = time_base
        stream.codec_context.gop_size = 4
        if sample_aspect is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect
        if rotation is not None:
            stream.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=8000) if audio else None
        for image, stamp in zip(frames, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), dtype=np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 8000, 0
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
    return path
