"""Which backends there are, which model files they open, and the one way to open a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nddr_deploy import optional
from nddr_deploy.errors import ConfigError, ModelFileError, unknown_choice

if TYPE_CHECKING:
    from nddr_deploy.engines.base import Engine

BACKENDS = {
    "torch": "nddr_deploy.engines.eager:TorchEngine",
    "torch-cuda": "nddr_deploy.engines.eager_gpu:TorchCudaEngine",
    "onnxruntime": "nddr_deploy.engines.ort:OrtEngine",
    "onnxruntime-as-written": "nddr_deploy.engines.ort_as_written:OrtAsWrittenEngine",
    "onnxruntime-cuda": "nddr_deploy.engines.ort_gpu:OrtCudaEngine",
    "onnxruntime-tensorrt": "nddr_deploy.engines.ort_gpu:OrtTensorRTEngine",
    "openvino": "nddr_deploy.engines.openvino:OpenVinoEngine",
    "tensorrt": "nddr_deploy.engines.trt:TensorRTEngine",
}
# The first is what opens such a file by default.
SUFFIXES = {
    ".pt": ("torch", "torch-cuda"),
    ".safetensors": ("torch", "torch-cuda"),
    ".onnx": ("onnxruntime", "onnxruntime-as-written", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino"),
    ".trt": ("tensorrt",),
}
EXTRAS = {
    "torch": "train",
    "torch-cuda": "train",
    "onnxruntime": "cpu",
    "onnxruntime-as-written": "cpu",
    "onnxruntime-cuda": "gpu",
    "onnxruntime-tensorrt": "gpu",
    "openvino": "cpu",
    "tensorrt": "gpu",
}
ADVICE = {
    ".pt": "Give the checkpoint instead.",
    ".onnx": "Export the checkpoint first, with nddr-export.",
    ".trt": "Build an engine first, with nddr-build.",
}
PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int8+bf16")


def open_engine(
    path: str | os.PathLike[str],
    backend: str | None = None,
    *,
    threads: int | None = None,
    precision: str | None = None,
) -> Engine:
    """Load a model file, ready to run. Nothing is fallen back on: what cannot be had is refused.

    >>> with open_engine("model.onnx") as engine:       # doctest: +SKIP
    ...     outputs = engine.infer(images)              # {"segmentation": (N, 40, h, w), "normals": (N, 3, h, w)}

    Args:
        path: a checkpoint (`.pt`, `.safetensors`), an exported model (`.onnx`) or a TensorRT engine (`.trt`).
        backend: key of `BACKENDS`; None is "torch" for checkpoints, "onnxruntime" for `.onnx`, both on the CPU, and
            "tensorrt" for `.trt`.
        threads: that one pass may use; None is `machine.default_threads()`: every core this process may use.
        precision: "fp32", "bf16", "fp16" or "int8"; "int8+bf16" is a quantised file with the layers that are not in
            int8 in bf16. None is the file's own, which is fp32 unless it was converted or quantised.

    Raises:
        ConfigError: an unknown backend, precision or suffix, a backend that cannot open such a file, threads below one.
        ModelFileError: the file is missing, damaged, or not one of ours.
        UnsupportedError: the backend or this machine lacks the precision.
        MissingPackageError: the backend's package is not installed.
    """
    file = Path(path)
    chosen = _backend_for(file, backend)
    if precision is not None and precision not in PRECISIONS:
        raise unknown_choice("precision", precision, PRECISIONS)
    if threads is not None and threads < 1:
        raise ConfigError(f"threads: got {threads}; expected a whole number from 1.")
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ModelFileError(f"{file} {what}; expected a checkpoint (.pt), a model (.onnx) or an engine (.trt).")
    engine = optional.load(BACKENDS[chosen], extra=EXTRAS[chosen])
    opened: Engine = engine(file, threads=threads, precision=precision)
    return opened


def _backend_for(file: Path, backend: str | None) -> str:
    if backend is not None and backend not in BACKENDS:
        raise unknown_choice("backend", backend, BACKENDS)
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        known = ", ".join(f"{suffix} ({' or '.join(backends)})" for suffix, backends in SUFFIXES.items())
        raise ConfigError(
            f"{file}: no engine opens {suffix or 'files without a suffix'!r}. Expected one of: {known}. "
            "(nddr-import makes a .pt of a checkpoint of other code.)"
        )
    if backend is None:
        return SUFFIXES[suffix][0]
    if backend not in SUFFIXES[suffix]:
        right = next(suffix for suffix, backends in SUFFIXES.items() if backend in backends)
        raise ConfigError(f"{file}: the backend {backend!r} opens {right} files, not {suffix}. {ADVICE[right]}")
    return backend
