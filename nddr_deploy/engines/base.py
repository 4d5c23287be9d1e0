"""The contract of every engine: images in, every head out of one pass, by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import numpy as np
from typing_extensions import Self

from nddr_deploy.errors import InputError
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

Held = TypeVar("Held")


@dataclass(frozen=True)
class PassTimes:
    """One pass of an engine on a GPU, split as trtexec splits it. Seconds.

    Attributes:
        h2d_s: images to the GPU.
        enqueue_s: the host's own time to start the computation; it overlaps with it.
        compute_s: the GPU's computation, without copies.
        d2h_s: results to the host.
    """

    h2d_s: float
    enqueue_s: float
    compute_s: float
    d2h_s: float


class Engine(ABC):
    """A loaded model. Checks inputs once; a backend writes `_run` and `close`.

    Attributes:
        manifest: what the model takes and returns.
        backend: the key in `BACKENDS`.
        precision: what the arithmetic really runs in: "fp32", "bf16", "fp16", "int8" or "int8+bf16".
        device: what it runs on, for people.
        threads: that one pass may use.
    """

    manifest: Manifest
    backend: str
    precision: str
    device: str
    threads: int

    def infer(self, images: Image) -> dict[str, Array]:
        """Every head's output from one pass over a batch.

        Args:
            images: uint8 (N, H, W, 3) RGB of the manifest's size.

        Returns:
            Task name -> output with N in front, raw or decoded as `manifest.outputs` says. The arrays are the
            caller's to keep.

        Raises:
            InputError: another type, shape or batch than the model takes; the engine is closed.
        """
        self._check(images)
        return self._run(np.ascontiguousarray(images))

    def stream(self, batches: Iterable[Image]) -> Generator[dict[str, Array], None, None]:
        """`infer` for many batches, in their order.

        An engine on a GPU takes the next batch while it computes, so results come one or two batches late. Close the
        generator, or read it to its end, before the engine is used otherwise.

        Args:
            batches: what `infer` takes, each.
        """
        for images in batches:
            yield self.infer(images)

    def _check(self, images: Image) -> None:
        manifest = self.manifest
        height, width = manifest.size_hw
        any_size, any_batch = "size" in manifest.dynamic, "batch" in manifest.dynamic
        right = (
            isinstance(images, np.ndarray)
            and images.dtype == np.uint8
            and images.ndim == 4
            and images.shape[3] == 3
            and min(images.shape) > 0
            and (any_size or images.shape[1:3] == (height, width))
            and (any_batch or images.shape[0] == manifest.batch)
        )
        if not right:
            batch = "N" if any_batch else manifest.batch
            size = "H, W" if any_size else f"{height}, {width}"
            found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            raise InputError(
                f"This model takes uint8 RGB images ({batch}, {size}, 3); got {found}. "
                "Pass frames as they come from a source, or see `nddr_deploy.preprocess`."
            )

    @abstractmethod
    def _run(self, images: Image) -> dict[str, Array]:
        """`infer` after the checks."""

    def _held(self, held: Held | None) -> Held:
        """What a backend holds until it is closed."""
        if held is None:
            raise InputError("This engine is closed. Open the model again with `open_engine`.")
        return held

    @abstractmethod
    def close(self) -> None:
        """Free what the backend holds. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
