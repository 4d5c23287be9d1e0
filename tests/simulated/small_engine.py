"""The least program that runs a plan, straight on the APIs, and the mistakes that can be made in it."""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any

import numpy as np
import onnx

from simulated.simulate import Machine

UP, DOWN = "cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"


def done(result: tuple[Any, ...]) -> Any:
    """What CUDA returned, or an error."""
    error, *values = result
    if int(error):
        raise RuntimeError(error.name)
    return values[0] if values else None


def build(machine: Machine, model: onnx.ModelProto, **shapes: tuple[Any, Any, Any]) -> bytes:
    """A plan in FP32."""
    trt = machine.trt
    builder = trt.Builder(trt.Logger())
    flags = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.EXPLICIT_BATCH if machine.api.major == 8 else flags.STRONGLY_TYPED))
    assert trt.OnnxParser(network, trt.Logger()).parse(model.SerializeToString())
    config = builder.create_builder_config()
    if shapes:
        profile = builder.create_optimization_profile()
        for name, extents in shapes.items():
            profile.set_shape(name, *extents)
        config.add_optimization_profile(profile)
    return bytes(builder.build_serialized_network(network, config))


class SmallEngine:
    """One context, one stream, a buffer on each side for each tensor.

    Attributes:
        host: name -> address of pinned memory.
        device: name -> address on the GPU.
    """

    def __init__(self, machine: Machine, plan: bytes) -> None:
        self.cudart = machine.cudart
        trt = machine.trt
        self.engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(plan)
        self.context = self.engine.create_execution_context()
        self.stream = self.make_stream()
        self.names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        self.shapes = {name: tuple(self.context.get_tensor_shape(name)) for name in self.names}
        self.types = {name: np.dtype(np.uint8 if name == "images" else np.float32) for name in self.names}
        self.sizes = {name: prod(self.shapes[name]) * self.types[name].itemsize for name in self.names}
        self.host = {name: done(self.cudart.cudaHostAlloc(self.sizes[name], 0)) for name in self.names}
        self.device = {name: done(self.cudart.cudaMalloc(self.sizes[name])) for name in self.names}
        for name, address in self.device.items():
            self.context.set_tensor_address(name, address)

    def make_stream(self) -> Any:
        return done(self.cudart.cudaStreamCreateWithFlags(self.cudart.cudaStreamNonBlocking))

    def write(self, images: Any) -> None:
        """Into pinned memory."""
        self._view("images")[...] = images

    def read(self) -> dict[str, Any]:
        """From pinned memory."""
        return {name: self._view(name).copy() for name in self.names if name != "images"}

    def upload(self, stream: Any = None) -> None:
        self._copy(self.device["images"], self.host["images"], "images", UP, stream)

    def compute(self, stream: Any = None) -> bool:
        return bool(self.context.execute_async_v3(int(stream or self.stream)))

    def download(self, stream: Any = None) -> None:
        for name in self.names:
            if name != "images":
                self._copy(self.host[name], self.device[name], name, DOWN, stream)

    def wait(self) -> None:
        done(self.cudart.cudaStreamSynchronize(self.stream))

    def infer(self, images: Any) -> dict[str, Any]:
        self.write(images)
        self.upload()
        assert self.compute()
        self.download()
        self.wait()
        return self.read()

    def capture(self) -> Any:
        """The computation as an executable graph."""
        mode = self.cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        done(self.cudart.cudaStreamBeginCapture(self.stream, mode))
        self.compute()
        graph = done(self.cudart.cudaStreamEndCapture(self.stream))
        executable = done(self.cudart.cudaGraphInstantiate(graph, 0))
        done(self.cudart.cudaGraphDestroy(graph))
        return executable

    def free(self) -> None:
        done(self.cudart.cudaStreamDestroy(self.stream))
        for name in self.names:
            done(self.cudart.cudaFreeHost(self.host[name]))
            done(self.cudart.cudaFree(self.device[name]))

    def _copy(self, target: int, source: int, name: str, kind: str, stream: Any) -> None:
        direction = getattr(self.cudart.cudaMemcpyKind, kind)
        done(self.cudart.cudaMemcpyAsync(target, source, self.sizes[name], direction, stream or self.stream))

    def _view(self, name: str) -> Any:
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * self.sizes[name]).from_address(self.host[name]))
        return raw.view(self.types[name]).reshape(self.shapes[name])
