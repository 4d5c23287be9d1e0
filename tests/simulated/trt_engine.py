"""A simulated TensorRT's runtime and engines: a plan is loaded only where it was made for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from simulated import plan
from simulated.trt_context import ExecutionContext
from simulated.trt_layers import inspect, inspect_all
from simulated.trt_network import TYPES

if TYPE_CHECKING:
    from simulated.tensorrt import World

Shape = tuple[int, ...]


class Crash(BaseException):
    """The real library ends the process here."""


class Runtime:
    """See `Runtime`."""

    def __init__(self, world: World, logger: Any) -> None:
        if world.gpu.kind.count == 0:
            raise Crash("trt.Runtime without a GPU: segmentation fault")
        self._world, self._logger = world, logger
        self.engine_host_code_allowed = False
        self.max_threads = 1

    def deserialize_cuda_engine(self, content: Any) -> Engine | None:
        found = plan.read(bytes(content))
        if found is None:
            return self._refuse("Serialization assertion magicTagRead == kMAGIC_TAG failed: the plan is damaged")
        header, graph = found
        world = self._world
        if header.version_compatible and not self.engine_host_code_allowed:
            return self._refuse("The plan holds host code, which is not allowed: see engine_host_code_allowed")
        later = header.version_compatible and _numbers(world.version)[0] == _numbers(header.tensorrt)[0]
        if header.tensorrt != world.version and not (later and _numbers(world.version) > _numbers(header.tensorrt)):
            return self._refuse(f"Version tag does not match: {world.version} is not {header.tensorrt}")
        here, there = world.gpu.kind.compute_capability, tuple(header.compute_capability)
        if here != there and not (header.hardware_compatible and here >= (8, 0)):
            return self._refuse(f"The engine was built for compute {there[0]}.{there[1]}, not {here[0]}.{here[1]}")
        return Engine(world, self._logger, header, graph)

    def _refuse(self, why: str) -> None:
        self._world.say_error(self._logger, f"IRuntime::deserializeCudaEngine: {why}")


class Engine:
    """See `ICudaEngine`.

    Attributes:
        header: of the plan.
        inputs, outputs: names.
        profile: the first one, input -> (min, opt, max); empty where no extent is open.
        contexts: how many were made that use that profile.
    """

    def __init__(self, world: World, logger: Any, header: plan.Header, graph: bytes) -> None:
        import onnxruntime

        self.world, self.logger, self.header = world, logger, header
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        described = onnx.load_model_from_string(graph).graph
        weights = {weight.name for weight in described.initializer}
        self._values = {value.name: value.type.tensor_type for value in (*described.input, *described.output)}
        self.inputs = [value.name for value in described.input if value.name not in weights]
        self.outputs = [value.name for value in described.output]
        self.profile: dict[str, Any] = header.profiles[0] if header.profiles else {}
        self.contexts = 0
        self.num_io_tensors = len(self.inputs) + len(self.outputs)
        self.num_layers = len(header.layers)
        self.nodes = [node.name for node in described.node]
        self.num_optimization_profiles = max(1, len(header.profiles))
        self.num_aux_streams = header.aux_streams
        self.device_memory_size = self.device_memory_size_v2 = world.scratch_bytes
        self.name = "simulated"
        self._known: dict[tuple[Shape, ...], dict[str, Shape]] = {}

    def get_tensor_name(self, index: int) -> str:
        return (self.inputs + self.outputs)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name in self.inputs else "OUTPUT" if name in self.outputs else "NONE"

    def get_tensor_dtype(self, name: str) -> str:
        return TYPES[self._values[name].elem_type]

    def get_tensor_shape(self, name: str) -> Shape:
        """Extents that the plan leaves open are -1."""
        kind = self._values[name]
        return tuple(extent.dim_value if extent.HasField("dim_value") else -1 for extent in kind.shape.dim)

    def get_tensor_location(self, name: str) -> str:
        return "DEVICE"

    def get_tensor_format(self, name: str, profile_index: int = 0) -> str:
        return "LINEAR"

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Shape]:
        shape = self.get_tensor_shape(name)
        profile = self.header.profiles[profile_index] if self.header.profiles else {}
        return [tuple(found) for found in profile.get(name, [shape] * 3)]

    def create_execution_context(self, strategy: Any = None) -> ExecutionContext | None:
        memory = self.world.gpu.memory
        if memory.used + self.world.scratch_bytes > memory.limit:
            self.world.say_error(self.logger, f"OutOfMemory: {self.world.scratch_bytes} bytes of scratch memory")
            return None
        self.contexts += 1
        usable = self.contexts == 1 or self.header.profile_sharing or not self.profile
        return ExecutionContext(self, usable=usable)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self)

    def dtype(self, name: str) -> Any:
        return np.dtype(helper.tensor_dtype_to_np_dtype(self._values[name].elem_type))

    def output_shapes(self, shapes: tuple[Shape, ...]) -> dict[str, Shape]:
        """What comes of inputs of these shapes, found by running them once."""
        if shapes not in self._known:
            blank = {name: np.zeros(shape, self.dtype(name)) for name, shape in zip(self.inputs, shapes, strict=True)}
            self._known[shapes] = {name: value.shape for name, value in self.run(blank).items()}
        return self._known[shapes]

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(self.outputs, self._session.run(self.outputs, inputs), strict=True))


class EngineInspector:
    """See `EngineInspector`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.execution_context: Any = None

    def get_engine_information(self, format: Any) -> str:
        engine = self._engine
        names, header = engine.inputs + engine.outputs, engine.header
        context = self.execution_context
        settled = not header.profiles or (context is not None and not context.infer_shapes())
        return inspect_all(header.layers, engine.world.major, detailed=header.detailed, tensors=names, settled=settled)

    def get_layer_information(self, index: int, format: Any) -> str:
        return str(inspect(self._engine.header.layers[index], self._engine.world.major))


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
