"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nddr_deploy.engines.base import Engine
from nddr_deploy.engines.machine import default_threads
from nddr_deploy.engines.onnx_file import INPUT, OnnxFile
from nddr_deploy.engines.silent_ort import onnxruntime
from nddr_deploy.errors import ModelFileError, UnsupportedError
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

PROVIDER = "CPUExecutionProvider"
# Measured with 1.32 on x86: of an FP16 graph every convolution runs in FP32 between casts, in the time that the FP32
# graph takes; BF16 has no kernels at all, and no casts either (microsoft/onnxruntime#28768).
INSTEAD = {
    "fp16": (
        "It would compute in FP32 between casts, as fast as the fp32 file and less exact; OpenVINO has FP16 where the "
        "processor does."
    ),
    "bf16": "It has no BF16 arithmetic; OpenVINO has where the processor does.",
    "int8+bf16": "It has no BF16 arithmetic; OpenVINO has where the processor does.",
}


class OrtEngine(Engine):
    """Runs an exported model with ONNX Runtime.

    Args:
        path: an ONNX file that nddr-export wrote.
        threads: of one pass; None is `machine.default_threads()`.
        precision: "fp32"; "int8" where the file itself holds Q/DQ nodes.

    Raises:
        ModelFileError: the file cannot be used.
        UnsupportedError: a precision that ONNX Runtime does not have on a CPU.
    """

    backend = "onnxruntime"
    device = "CPU"

    def __init__(self, path: Path, *, threads: int | None = None, precision: str | None = None) -> None:
        file = OnnxFile.read(path)
        self.manifest = file.manifest
        self.precision = file.check_precision(precision, ("fp32",), "ONNX Runtime on a CPU", instead=INSTEAD)
        self.threads = threads or default_threads()
        self._names = [task.name for task in file.manifest.tasks]
        self._session: onnxruntime.InferenceSession | None = open_session(path, threads=self.threads)

    def _run(self, images: Image) -> dict[str, Array]:
        outputs = self._held(self._session).run(self._names, {INPUT: images})
        return {name: np.asarray(output) for name, output in zip(self._names, outputs, strict=True)}

    def close(self) -> None:
        self._session = None


def open_session(model: Path | bytes, *, threads: int, as_written: bool = False) -> onnxruntime.InferenceSession:
    """A session on the CPU provider and on nothing else, with all graph optimisations unless it is said otherwise.

    Threads keep spinning for a moment after a pass (the library's default): that is the fastest where the machine is
    ours, and a session of one thread has none to spin.

    Args:
        model: an ONNX file, or its bytes.
        threads: inside an operator; operators run one after the other.
        as_written: node by node, nothing fused: what a graph means, however slow.

    Raises:
        ModelFileError: ONNX Runtime cannot load it.
        UnsupportedError: it would run elsewhere than on the CPU provider.
    """
    name = str(model) if isinstance(model, Path) else "the model"
    options = session_options(threads)
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=[PROVIDER]
        )
    except Exception as error:  # its exceptions share no base class
        raise ModelFileError(
            f"{name}: ONNX Runtime cannot load it ({reason(error)}). Export the model again."
        ) from error
    if session.get_providers()[0] != PROVIDER:
        raise UnsupportedError(f"{name}: expected ONNX Runtime's {PROVIDER}; it chose {session.get_providers()[0]}.")
    return session


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """What all our sessions share, on a CPU and on a GPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors only: they are raised, too
    return options


def reason(error: Exception) -> str:
    """The first line of what ONNX Runtime says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
