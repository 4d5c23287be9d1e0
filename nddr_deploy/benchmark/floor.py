"""What this machine can do at best: the fastest of a fixed list of kernels, per precision.

A network can hardly run faster than its arithmetic at that rate, so that "1.05 times the floor" says how little is left
to gain by another runtime, and "2 times" how much. The list holds the shapes of the networks here (3x3 and 1x1
convolutions and matrix products); each is a chain, so that bringing the data into a library's own layout and back
hardly counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy import optional
from nddr_deploy.errors import MissingPackageError, UnsupportedError
from nddr_deploy.graph.flops import count_flops

OPSET = 17
IR_VERSION = 8
REPEATS = 3


@dataclass(frozen=True)
class Shape:
    """A chain of equal layers. `kernel` 0 is a matrix product of (size * size, channels) with (channels, channels)."""

    kernel: int
    channels: int
    size: int
    layers: int

    @property
    def name(self) -> str:
        if self.kernel == 0:
            return f"matrix {self.size**2}x{self.channels}x{self.channels}"
        return f"convolution {self.kernel}x{self.kernel}, {self.channels} channels, {self.size}x{self.size}"


# 0.7 to 2.4 GFLOP each: long enough to time, short enough to repeat in every round.
SHAPES = (
    Shape(kernel=3, channels=64, size=96, layers=3),
    Shape(kernel=3, channels=128, size=64, layers=2),
    Shape(kernel=3, channels=256, size=40, layers=2),
    Shape(kernel=3, channels=512, size=24, layers=2),
    Shape(kernel=1, channels=512, size=40, layers=2),
    Shape(kernel=1, channels=1024, size=24, layers=2),
    Shape(kernel=0, channels=512, size=32, layers=3),
    Shape(kernel=0, channels=1024, size=32, layers=1),
)
RUNTIMES = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))


@dataclass(frozen=True)
class Rate:
    """What one kernel reached.

    Attributes:
        backend, precision: that it ran in.
        kernel: which shape.
        flops_per_s: floating-point operations per second of processor time.
    """

    backend: str
    precision: str
    kernel: str
    flops_per_s: float


class Kernels:
    """All kernels of the list in every runtime, loaded and warm.

    Args:
        threads: of every kernel; 1 measures a core.

    Attributes:
        not_run: "backend precision" -> why it is not measured here.
    """

    def __init__(self, *, threads: int, shapes: tuple[Shape, ...] = SHAPES) -> None:
        self.not_run: dict[str, str] = {}
        self._kernels: list[tuple[Rate, float, Callable[[], object]]] = []
        for backend, precision in RUNTIMES:
            try:
                for shape in shapes:
                    model = chain(shape)
                    run = _load(backend, precision, model.SerializeToString(), input_of(shape), threads)
                    run()
                    work = count_flops(model, (shape.size, shape.size))
                    self._kernels.append((Rate(backend, precision, shape.name, 0.0), work, run))
            except (MissingPackageError, UnsupportedError) as error:
                self.not_run[f"{backend} {precision}"] = str(error)

    def measure(self) -> list[Rate]:
        """The rate of each kernel, at the fastest of a few runs."""
        rates = []
        for kernel, work, run in self._kernels:
            fastest = min(_processor_s(run) for _ in range(REPEATS))
            rates.append(Rate(kernel.backend, kernel.precision, kernel.kernel, work / fastest))
        return rates


def best(rates: list[Rate]) -> dict[str, Rate]:
    """Precision -> the fastest kernel in it."""
    found: dict[str, Rate] = {}
    for rate in rates:
        if rate.precision not in found or rate.flops_per_s > found[rate.precision].flops_per_s:
            found[rate.precision] = rate
    return found


def chain(shape: Shape) -> onnx.ModelProto:
    """The ONNX model of a shape, with random weights of a size that keeps the values near one."""
    generator = np.random.default_rng(0)
    width, kernel = shape.channels, max(shape.kernel, 1)
    weight_shape = (width, width, kernel, kernel) if shape.kernel else (width, width)
    nodes, weights = [], []
    for layer in range(shape.layers):
        scale = 1.0 / np.sqrt(width * kernel**2)
        weight = generator.normal(0, scale, weight_shape).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"weight{layer}"))
        names = [f"value{layer}", f"weight{layer}"], [f"value{layer + 1}"]
        padding = {"pads": [kernel // 2] * 4} if shape.kernel else {}
        nodes.append(helper.make_node("Conv" if shape.kernel else "MatMul", *names, **padding))
    dims = input_of(shape).shape
    values = [helper.make_tensor_value_info(f"value{at}", TensorProto.FLOAT, dims) for at in (0, shape.layers)]
    graph = helper.make_graph(nodes, "floor", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def input_of(shape: Shape) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(1, C, size, size) for convolutions, (size * size, C) for matrix products."""
    dims = (1, shape.channels, shape.size, shape.size) if shape.kernel else (shape.size**2, shape.channels)
    return np.random.default_rng(1).normal(size=dims).astype(np.float32)


def _load(backend: str, precision: str, model: bytes, value: object, threads: int) -> Callable[[], object]:
    if backend == "onnxruntime":
        session = optional.load("nddr_deploy.engines.ort:open_session", extra="cpu")(model, threads=threads)
        return lambda: session.run(None, {"value0": value})
    compiled = optional.load("nddr_deploy.engines.openvino:compile_model", extra="cpu")(
        model, precision, threads=threads
    )
    request = compiled.create_infer_request()
    return lambda: request.infer({0: value}, share_inputs=True)


def _processor_s(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start
