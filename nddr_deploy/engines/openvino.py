"""OpenVINO on the CPU."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from nddr_deploy.engines.base import Engine
from nddr_deploy.engines.machine import default_threads
from nddr_deploy.engines.onnx_file import INPUT, OnnxFile
from nddr_deploy.errors import ModelFileError, UnsupportedError
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

# OpenVINO reports its import to Google Analytics and writes to the home folder, unless this package is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402

# What the arithmetic outside Q/DQ nodes runs in. FP16 beside int8 is not offered: on a trained ResNet-18 it moved depth
# by 7 % of its range, 17 times what int8 with FP32 or BF16 does.
HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16", "int8+bf16": "bf16", "fp16": "f16"}
NEEDS = {"bf16": "BF16", "int8+bf16": "BF16", "fp16": "FP16"}  # among what OpenVINO says of the processor
# What the layers that multiply report, per precision; the 8-bit types of both signs are one.
REALISED = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "u8": "int8", "i8": "int8"}
MULTIPLYING = ("Convolution", "FullyConnected", "MatMul")


class OpenVinoEngine(Engine):
    """Runs an exported model with OpenVINO's CPU plugin.

    The precision is pinned: left alone, OpenVINO computes in bf16 wherever the processor can.

    Of FP16, a file in FP32 is converted as a whole, and values beyond 65504 overflow; in an FP16 file, from nddr-build
    --graph, the nodes that it has in FP32 run in FP32. On processors without AMX for FP16, FP16 is slower than FP32
    (1.6 times on a Sapphire Rapids), and 8 times as exact as BF16.

    Args:
        path: an ONNX file that nddr-export, nddr-quantize or nddr-build wrote.
        threads: of one pass; None is `machine.default_threads()`.
        precision: "fp32" or, where the processor has it, "bf16" or "fp16". Where the file itself holds Q/DQ nodes,
            "int8" (the rest in FP32) or, where the processor has it, "int8+bf16". Where it holds FP16, "fp16".

    Raises:
        ModelFileError: the file cannot be used.
        UnsupportedError: a precision that OpenVINO, this processor or this file does not have; more threads than
            it takes.
    """

    backend = "openvino"
    device = "CPU"

    def __init__(self, path: Path, *, threads: int | None = None, precision: str | None = None) -> None:
        file = OnnxFile.read(path)
        self.manifest = file.manifest
        self.precision = file.check_precision(
            precision,
            ("fp32", "bf16", "fp16"),
            "OpenVINO on a CPU",
            as_written=("int8", "fp16"),
            of_int8=("int8+bf16",),
        )
        self._names = [task.name for task in file.manifest.tasks]
        compiled = compile_model(
            path, self.precision, threads=threads or default_threads(), as_written=file.precision == "fp16"
        )
        self.threads = compiled.get_property("INFERENCE_NUM_THREADS")
        if threads is not None and self.threads != threads:
            raise UnsupportedError(
                f"{path}: OpenVINO runs at most {self.threads} threads here, one a core; asked for {threads}. "
                f"Ask for {self.threads} or fewer."
            )
        self._compiled: openvino.CompiledModel | None = compiled
        self._request: openvino.InferRequest | None = compiled.create_infer_request()

    def _run(self, images: Image) -> dict[str, Array]:
        request = self._held(self._request)
        request.infer({INPUT: images}, share_inputs=True)
        # the request's tensors are written again by the next pass
        return {name: np.array(request.get_tensor(name).data) for name in self._names}

    def close(self) -> None:
        self._request = None
        self._compiled = None


@cache
def core() -> openvino.Core:
    """The one that all engines of a process share.

    Each Core gives its thread another stack for signals and frees it in the end. Of two, freed in the order in which
    they were made, the second puts the first one's freed stack back, and the next Ctrl-C is a segmentation fault.
    """
    return openvino.Core()


def compile_model(
    model: Path | bytes, precision: str, *, threads: int, as_written: bool = False
) -> openvino.CompiledModel:
    """A model compiled for one request at a time on the CPU, in the precision asked for.

    Args:
        model: an ONNX file, or its bytes.
        precision: key of `HINTS`.
        threads: of one pass.
        as_written: every layer in the type that the graph has it in, some of them in FP32; else all in one type.

    Raises:
        ModelFileError: OpenVINO cannot load it.
        UnsupportedError: the processor lacks the precision, or OpenVINO chose another one for most layers.
    """
    name = str(model) if isinstance(model, Path) else "the model"
    able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision in NEEDS and NEEDS[precision] not in able:
        raise UnsupportedError(
            f"{name}: this processor has no {NEEDS[precision].lower()} arithmetic that OpenVINO uses (it has "
            f"{', '.join(able)}). Ask for {'int8' if precision == 'int8+bf16' else 'fp32, of an fp32 file'}."
        )
    kinds = {"EXECUTION_MODE_HINT": "ACCURACY"} if as_written else {"INFERENCE_PRECISION_HINT": HINTS[precision]}
    settings = {
        **kinds,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        graph = core().read_model(model if isinstance(model, bytes) else str(model))
        compiled = core().compile_model(graph, "CPU", settings)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelFileError(f"{name}: OpenVINO cannot load it ({reason}). Export the model again.") from error
    realised = realised_precisions(compiled)
    if not _as_asked(precision, realised):
        raise UnsupportedError(
            f"{name}: asked OpenVINO for {precision}; its layers run in {' and '.join(realised)}. "
            "Use another precision or another file."
        )
    return compiled


def _as_asked(precision: str, realised: Sequence[str]) -> bool:
    """Whether layers run as was asked for: nearly all in one precision, for a few may have no kernel in it.

    A quantised file keeps as many layers in float as it likes; those are nearly all in the second precision.
    """
    main, _, rest = precision.partition("+")
    if main != "int8":
        return not realised or realised[0] == main
    floats = [found for found in realised if found != "int8"]
    return "int8" in realised and (not rest or not floats or floats[0] == rest)


def realised_precisions(compiled: openvino.CompiledModel) -> list[str]:
    """What the layers that multiply really run in, the most frequent first; empty where there is no such layer."""
    layers = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    found = Counter(
        REALISED.get(layer["runtimePrecision"].astype(str), "another type")
        for layer in layers
        if layer["layerType"].astype(str) in MULTIPLYING
    )
    return [precision for precision, _ in found.most_common()]
