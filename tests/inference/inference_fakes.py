"""An engine, a source and a sink that need no model and no media, and can be told to be slow or to fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from threading import Event

import numpy as np

from nddr_deploy.engines.base import Engine
from nddr_deploy.inference.base import Frame, Remarks, Result, SourceInfo
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks import Age, Depth, Normals, Segmentation
from nddr_deploy.tasks.base import Array

TASKS = (
    Segmentation("segmentation", classes=("dark", "grey", "bright")),
    Normals("normals"),
    Depth("depth"),
    Age("age"),
)
STRIDE = 8


class FakeEngine(Engine):
    """Computes results from the picture itself: its brightness decides the class, the depth and the age."""

    backend, precision, device = "fake", "fp32", "this test"

    def __init__(
        self, size_hw: tuple[int, int] = (48, 64), *, batch: int = 1, dynamic: bool = False, delay_s: float = 0.0
    ) -> None:
        self.manifest = Manifest(tasks=TASKS, size_hw=size_hw, batch=batch, dynamic=("batch",) if dynamic else ())
        self.batches: list[int] = []
        self.fail_at: int | None = None
        self.output: Callable[[dict[str, Array]], dict[str, Array]] = lambda outputs: outputs
        self._delay_s = delay_s

    def _run(self, images: Image) -> dict[str, Array]:
        if self.fail_at == len(self.batches):
            raise RuntimeError("the engine broke")
        self.batches.append(len(images))
        time.sleep(self._delay_s)
        # (N, h, w), 0..1: the mean brightness of a cell
        count, height, width = images.shape[:3]
        cells = images.reshape(count, height // STRIDE, STRIDE, width // STRIDE, STRIDE, 3).mean(axis=(2, 4, 5)) / 255
        scores = -np.abs(cells[:, None] - np.array([0.0, 0.5, 1.0]).reshape(1, 3, 1, 1))
        toward = np.broadcast_to(np.array([0.0, 0.0, -1.0]).reshape(1, 3, 1, 1), (count, 3, *cells.shape[1:]))
        ages = np.full((count, 100), -50.0)
        ages[np.arange(count), np.rint(cells.mean(axis=(1, 2)) * 99).astype(int)] = 50.0
        outputs = {"segmentation": scores, "normals": toward, "depth": cells[:, None] * 10, "age": ages}
        return self.output({name: np.ascontiguousarray(values, np.float32) for name, values in outputs.items()})

    def close(self) -> None:
        pass


class FakeSource:
    """Grey frames, frame i of brightness 20 + 5 i (as `media.grey_frames`), 25 a second."""

    def __init__(self, frames: int, *, size_hw: tuple[int, int] = (48, 64), fail_at: int | None = None) -> None:
        self.info = SourceInfo("fake", "video", frames=frames, rate=Fraction(25), time_base=Fraction(1, 25))
        self.remarks = Remarks()
        self.read = 0
        self.closed = 0
        self._size_hw = size_hw
        self._fail_at = fail_at

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.info.frames or 0):
            if index == self._fail_at:
                raise RuntimeError("the source broke")
            self.read += 1
            image = np.full((*self._size_hw, 3), 20 + 5 * index % 200, dtype=np.uint8)
            yield Frame(image, index, Fraction(index, 25), f"{index:06d}")

    def close(self) -> None:
        self.closed += 1


class FakeSink:
    """Keeps what it gets."""

    def __init__(self, *, delay_s: float = 0.0, fail_at: int | None = None, block: Event | None = None) -> None:
        self.results: list[Result] = []
        self.closed = self.aborted = 0
        self.began = Event()
        self._delay_s, self._fail_at, self._block = delay_s, fail_at, block

    def write(self, result: Result) -> None:
        if len(self.results) == self._fail_at:
            raise RuntimeError("the sink broke")
        self.began.set()
        if self._block is not None:
            self._block.wait(60)
        time.sleep(self._delay_s)
        self.results.append(result)

    def close(self) -> None:
        self.closed += 1

    def abort(self) -> None:
        self.aborted += 1
