"""A camera that walks through one room: a continuous video with exact targets for every frame."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from nddr_deploy.data.base import Sample
from nddr_deploy.data.rooms.dataset import tasks_of
from nddr_deploy.data.rooms.layout import furnish
from nddr_deploy.data.rooms.render import Rendering, render
from nddr_deploy.data.rooms.scene import Camera, Scene
from nddr_deploy.data.sensor import Sensor, automatic_gain
from nddr_deploy.data.splits import checked_count, checked_index, checked_size
from nddr_deploy.errors import ConfigError
from nddr_deploy.files import finished_file
from nddr_deploy.tasks.base import Array

STRIP = 1.9  # metres of floor at the south wall that stay free
FURNISHINGS = 8  # that are tried: the one that shows most is taken
PURPOSE = 1  # keeps these rooms apart from those of the data set's samples, whatever the seed
SPLIT = 3


class Walkthrough:
    """Frames of a camera that moves along a smooth closed path in one furnished room.

    The path keeps to a strip near the south wall in which nothing stands, as the cameras of `Rooms` do.

    Args:
        seed: the room, its furniture and the path. No split of `Rooms` has the same room.
        frames: of one round along the path.
        size_hw: height and width in pixels.
    """

    tasks = tasks_of("all")

    def __init__(self, *, seed: int = 0, frames: int = 240, size_hw: Sequence[int] = (240, 320)) -> None:
        checked_count(frames, seed)
        self.count = frames
        self.size_hw = checked_size(size_hw, least=16)
        self.seed = seed
        rng = self._generator(0)
        width, length, height = rng.uniform(4.2, 4.8), rng.uniform(4.4, 5.0), rng.uniform(2.45, 2.75)
        self._extent = width, length
        self._phases = rng.uniform(0, 2 * math.pi, 4)
        self._middle_yaw = rng.normal(0, math.radians(4))
        self._eye = rng.uniform(1.4, 1.6)
        self._view = math.radians(rng.uniform(64, 72))
        self._sensor = Sensor.draw(rng)
        free = (0.35, width - 0.35, 0.0, STRIP)
        scenes = [furnish(rng, (width, length, height), free) for _ in range(FURNISHINGS)]
        self._scene = max(scenes, key=self._variety)
        gains = [automatic_gain(seen.radiance) for seen in self._glances(self._scene)]
        self._gain = float(np.mean(gains))  # one exposure, so that brightness does not pump

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        index = checked_index(index, self.count)
        seen = render(self._scene, self._camera(index / self.count), self.size_hw)
        image = self._sensor.expose(seen.radiance, self._generator(1 + index), self._gain)
        targets: dict[str, Array] = {"segmentation": seen.labels, "normals": seen.normals, "depth": seen.depth}
        return Sample(f"walkthrough-{self.seed}-{index:06d}", image, targets)

    def _glances(self, scene: Scene) -> list[Rendering]:
        return [render(scene, self._camera(turn), (48, 64)) for turn in (0, 0.25, 0.5, 0.75)]

    def _variety(self, scene: Scene) -> int:
        """How many classes cover at least 1.5 % of a view, over four views."""
        return sum(
            int((np.bincount(seen.labels.ravel()) > 0.015 * seen.labels.size).sum()) for seen in self._glances(scene)
        )

    def _camera(self, turn: float) -> Camera:
        """Where the camera is after `turn` (0 .. 1) of its round."""
        angle = 2 * math.pi * turn
        width, length = self._extent
        x = width * (0.5 + 0.24 * math.sin(angle + self._phases[0]))
        y = 0.75 + 0.4 * math.sin(2 * angle + self._phases[1])
        aim = np.array([width * (0.5 + 0.14 * math.sin(angle + self._phases[2])), 0.8 * length])
        yaw = (
            math.atan2(aim[0] - x, aim[1] - y)
            + self._middle_yaw
            + math.radians(9) * math.sin(2 * angle + self._phases[3])
        )
        pitch = math.radians(11 + 4 * math.sin(angle + self._phases[1]))
        bob = 0.015 * math.sin(12 * angle)  # steps
        position = np.array([x, y, self._eye + bob])
        return Camera.looking(position, yaw, pitch, math.radians(1.2) * math.sin(3 * angle), self._view)

    def _generator(self, index: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, SPLIT, index, PURPOSE])))


def render_walkthrough(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    frames: int = 240,
    rate: int = 20,
    size_hw: Sequence[int] = (240, 320),
) -> None:
    """Write a walk-through as an H.264 video that browsers play.

    Args:
        path: an `.mp4` file.
        seed, frames: see `Walkthrough`.
        rate: frames per second.
        size_hw: height and width in pixels, even numbers.

    Raises:
        ConfigError: an odd size, which yuv420p cannot hold, or no frames.
        InputError: the file cannot be written.
    """
    import av

    if any(side % 2 for side in checked_size(size_hw, least=16)):
        raise ConfigError(f"size_hw: a video needs an even height and width; got {size_hw[0]}x{size_hw[1]}.")
    walk = Walkthrough(seed=seed, frames=frames, size_hw=size_hw)
    with (
        finished_file(path) as temporary,
        av.open(str(temporary), "w", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"crf": "18", "preset": "veryfast"})
        stream.height, stream.width = walk.size_hw
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(walk[index].image, format="rgb24")))
        container.mux(stream.encode())
