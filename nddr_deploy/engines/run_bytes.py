"""A graph that is no file, run on the CPU: for passes that need to see what it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nddr_deploy import optional
from nddr_deploy.engines.machine import default_threads
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array


def run_bytes(
    model: bytes, *, threads: int | None = None, as_written: bool = False, extra: str = "cpu"
) -> Callable[[Image], Mapping[str, Array]]:
    """ONNX Runtime on the CPU, on any graph that takes `images`; it needs no manifest.

    Args:
        model: a serialised ONNX model.
        threads: of one pass; None is `machine.default_threads()`.
        as_written: with graph optimisation off: a graph for TensorRT means what it says only then.
        extra: which of the package's extras to name where ONNX Runtime is not installed.

    Returns:
        uint8 (N, H, W, 3) -> output name -> value.

    Raises:
        MissingPackageError: ONNX Runtime is not installed.
        ModelFileError: it cannot load the graph.
    """
    session = optional.load("nddr_deploy.engines.ort:open_session", extra=extra)(
        model, threads=threads or default_threads(), as_written=as_written
    )
    names = [output.name for output in session.get_outputs()]

    def run(images: Image) -> Mapping[str, Array]:
        return dict(zip(names, map(np.asarray, session.run(names, {"images": images})), strict=True))

    return run
