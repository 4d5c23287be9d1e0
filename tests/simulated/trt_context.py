"""A simulated TensorRT's execution context: it puts computations into streams, and reads memory only when they run."""

from __future__ import annotations

import weakref
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from simulated.gpu import Work
from simulated.memory import Fault

if TYPE_CHECKING:
    from simulated.tensorrt import World
    from simulated.trt_engine import Engine

Shape = tuple[int, ...]
ALIGNMENT = 256  # of every address that TensorRT is given, by its documentation


class ExecutionContext:
    """See `IExecutionContext`. It has scratch memory, so two computations of it must not be in flight at once.

    Args:
        engine: it belongs to.
        usable: it got the engine's profile; before TensorRT 10 only one context does, unless contexts share it.
    """

    def __init__(self, engine: Engine, *, usable: bool) -> None:
        self._engine, self._world, self._usable = engine, engine.world, usable
        self.engine, self.name = engine, ""
        first = engine.contexts == 1 or not engine.profile or engine.world.major != 8
        self.active_optimization_profile = 0 if usable and first else -1  # 8.6 documents nothing for a second one
        self._token = object()
        self.profiler: Any = None
        self.enqueue_emits_profile = True
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, Shape] = {
            name: engine.get_tensor_shape(name) for name in engine.inputs if -1 not in engine.get_tensor_shape(name)
        }
        self._ran_with: tuple[Shape, ...] | None = None
        world = self._world
        world.gpu.memory.reserved += world.scratch_bytes
        world.contexts += 1
        weakref.finalize(self, _destroyed, world, self._token).atexit = False

    @property
    def all_binding_shapes_specified(self) -> bool:
        return not self.infer_shapes()

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        engine = self._engine
        if name not in engine.inputs:
            return self._refuse(f"setInputShape: {name} is no input")
        least, _, most = engine.get_tensor_profile_shape(name, 0)
        fits = len(shape) == len(least) and all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))
        chosen = self.active_optimization_profile == 0
        if not fits or not chosen:
            why = "is not in the profile's range" if chosen else "has no profile: another context uses it"
            return self._refuse(f"IExecutionContext::setInputShape: {name} {shape} {why} {least} to {most}")
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        if name not in (*self._engine.inputs, *self._engine.outputs):
            return self._refuse(f"setTensorAddress: there is no tensor {name}")
        self._addresses[name] = address
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def get_tensor_shape(self, name: str) -> Shape:
        if name in self._shapes:
            return self._shapes[name]
        if name in self._engine.inputs or self.infer_shapes():
            return self._engine.get_tensor_shape(name)
        return self._engine.output_shapes(self._input_shapes())[name]

    def infer_shapes(self) -> list[str]:
        """Inputs whose shape is still open."""
        return [name for name in self._engine.inputs if name not in self._shapes]

    def get_max_output_size(self, name: str) -> int:
        most = tuple(self._engine.get_tensor_profile_shape(name, 0)[2] for name in self._engine.inputs)
        return prod(self._engine.output_shapes(most)[name]) * int(self._engine.dtype(name).itemsize)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if profile_index == 0 and self._usable:
            self.active_optimization_profile = 0
        return profile_index == 0 and self._usable

    def execute_async_v3(self, handle: int) -> bool:
        world, engine = self._world, self._engine
        with world.cuda.lock:
            missing = self.infer_shapes()
            missing += [name for name in (*engine.inputs, *engine.outputs) if not self._addresses.get(name)]
            if missing:
                return self._refuse(f"enqueueV3: no shape or no address of {', '.join(missing)}")
            if any(address % ALIGNMENT for address in self._addresses.values()):
                world.gpu.misuse.append(f"TensorRT was given an address that is no multiple of {ALIGNMENT} bytes")
            try:
                stream = world.cuda.stream(handle)
                if stream is world.gpu.default:
                    world.gpu.misuse.append("TensorRT was given the default stream")
                if stream.capture is not None and self._ran_with != self._input_shapes():
                    world.cuda.spoil_captures("what TensorRT does once for each shape")
                self._ran_with = self._input_shapes()
                world.gpu.give(stream, self._work())
            except Fault as fault:
                return self._refuse(f"enqueueV3: {fault}")
        return True

    def report_to_profiler(self) -> bool:
        if self.profiler is None or self.enqueue_emits_profile or self._ran_with is None:
            return False
        for node in self._engine.nodes:
            self.profiler.report_layer_time(node, 0.25)
        return True

    def _work(self) -> Work:
        """The computation with the addresses and shapes of now."""
        engine, shapes = self._engine, self._input_shapes()
        where = dict(self._addresses)
        cost = engine.world.gpu.kind.costs.compute_s
        return Work("the computation", partial(_compute, engine, where, shapes), cost, frozenset({self._token}))

    def _input_shapes(self) -> tuple[Shape, ...]:
        return tuple(self._shapes[name] for name in self._engine.inputs)

    def _refuse(self, why: str) -> bool:
        self._world.say_error(self._engine.logger, why)
        return False


def _compute(engine: Engine, where: dict[str, int], shapes: tuple[Shape, ...]) -> None:
    memory = engine.world.gpu.memory
    inputs = {}
    for name, shape in zip(engine.inputs, shapes, strict=True):
        dtype = engine.dtype(name)
        inputs[name] = _on_device(memory, where[name], prod(shape) * dtype.itemsize).copy().view(dtype).reshape(shape)
    for name, value in engine.run(inputs).items():
        content = np.ascontiguousarray(value)
        _on_device(memory, where[name], content.nbytes)[...] = content.reshape(-1).view(np.uint8)


def _on_device(memory: Any, address: int, size: int) -> Any:
    found = memory.find(address)
    if found is None or found.kind != "device":
        raise Fault("cudaErrorIllegalAddress", f"{address:#x} is not on the device")
    return memory.view(address, size)


def _destroyed(world: World, token: object) -> None:
    with world.cuda.lock:
        world.gpu.memory.reserved -= world.scratch_bytes
        world.contexts -= 1
        if world.gpu.pending(token):
            world.gpu.misuse.append("an execution context was destroyed while its computation was in flight")
