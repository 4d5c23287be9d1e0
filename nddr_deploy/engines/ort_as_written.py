"""ONNX Runtime on the CPU with nothing fused: slow, and what a graph for TensorRT computes by its own definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nddr_deploy.engines.base import Engine
from nddr_deploy.engines.machine import default_threads
from nddr_deploy.engines.onnx_file import INPUT, OnnxFile
from nddr_deploy.engines.ort import open_session
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array


class OrtAsWrittenEngine(Engine):
    """Runs every node as ONNX defines it, with graph optimisation off.

    For models that another runtime is meant to run fast: quantised for TensorRT, or with FP16 weights. It tells their
    accuracy on a machine that cannot run them otherwise, and nothing about their speed. Between a Q and a DQ node the
    numbers are whole; convolutions multiply what comes out of DQ nodes in floating point.

    Args:
        path: an ONNX file that nddr-export, nddr-quantize or nddr-build wrote.
        threads: of one pass; None is `machine.default_threads()`.
        precision: the file's own.

    Raises:
        ModelFileError: the file cannot be used.
        UnsupportedError: another precision than the file's.
    """

    backend = "onnxruntime-as-written"
    device = "CPU"

    def __init__(self, path: Path, *, threads: int | None = None, precision: str | None = None) -> None:
        file = OnnxFile.read(path)
        self.manifest = file.manifest
        self.precision = file.check_precision(
            precision, ("fp32",), "ONNX Runtime, as written,", as_written=("fp16", "int8", "int8+fp16")
        )
        self.threads = threads or default_threads()
        self._names = [task.name for task in file.manifest.tasks]
        self._session = open_session(path, threads=self.threads, as_written=True)

    def _run(self, images: Image) -> dict[str, Array]:
        outputs = self._held(self._session).run(self._names, {INPUT: images})
        return {name: np.asarray(output) for name, output in zip(self._names, outputs, strict=True)}

    def close(self) -> None:
        self._session = None
