"""A simulated TensorRT's network, and the parser that fills it from an ONNX file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto

from simulated import onnx_rules

if TYPE_CHECKING:
    from simulated.tensorrt import World

TYPES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.UINT8: "UINT8",
    TensorProto.INT8: "INT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
}
# The beginning of an operator's name -> kind of layer; elementwise what is not here.
LAYERS = {
    "ConvTranspose": "DECONVOLUTION",
    "Conv": "CONVOLUTION",
    "Gemm|MatMul": "MATRIX_MULTIPLY",
    "Relu|Sigmoid|Tanh|LeakyRelu|Clip|Elu|Softplus": "ACTIVATION",
    "Cast": "CAST",
    "Resize": "RESIZE",
    "Concat": "CONCATENATION",
    "Reshape|Transpose|Flatten|Squeeze|Unsqueeze": "SHUFFLE",
    "Softmax|LogSoftmax": "SOFTMAX",
    "ArgMax|ArgMin|TopK": "TOPK",
    "Slice": "SLICE",
    "Gather": "GATHER",
    "Shape": "SHAPE",
    "Reduce|Global": "REDUCE",
    "MaxPool|AveragePool": "POOLING",
    "Constant": "CONSTANT",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
}


class Tensor:
    """See `ITensor`; open extents are -1."""

    def __init__(self, name: str, dtype: str, shape: tuple[int, ...] = (), *, role: str = "") -> None:
        self.name, self.dtype, self.shape = name, dtype, shape
        self.is_network_input, self.is_network_output = role == "input", role == "output"
        self.location = "DEVICE"


class Layer:
    """See `ILayer`. What is asked of it counts only where the builder is told to obey."""

    def __init__(self, node: onnx.NodeProto, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        self.name, self.operator = node.name, node.op_type
        self.type = next((kind for start, kind in LAYERS.items() if re.match(start, node.op_type)), "ELEMENTWISE")
        self.metadata = f"[ONNX Layer: {node.name}]"
        self.inputs, self.outputs = inputs, outputs
        self.num_inputs, self.num_outputs = len(inputs), len(outputs)
        self.precision_is_set = False
        self._precision: Any = "FLOAT"
        self.output_types: dict[int, str] = {}

    @property
    def precision(self) -> Any:
        return self._precision

    @precision.setter
    def precision(self, value: Any) -> None:
        self._precision, self.precision_is_set = value.name, True

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self.outputs[index]

    def set_output_type(self, index: int, dtype: Any) -> None:
        self.output_types[index] = dtype.name

    def get_output_type(self, index: int) -> str:
        return self.output_types.get(index, self.outputs[index].dtype)

    def output_type_is_set(self, index: int) -> bool:
        return index in self.output_types


class Network:
    """See `INetworkDefinition`.

    Attributes:
        explicit: each extent has its place, the batch too; what ONNX needs.
        strongly_typed: the graph decides all types.
        model, types: what was parsed.
    """

    def __init__(self, *, explicit: bool, strongly_typed: bool) -> None:
        self.explicit, self.strongly_typed = explicit, strongly_typed
        self.name = ""
        self.model: onnx.ModelProto | None = None
        self.types: dict[str, int] = {}
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.layers: list[Layer] = []

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self.outputs[index]

    def fill(self, model: onnx.ModelProto, types: dict[str, int]) -> None:
        graph = model.graph
        self.model, self.types = model, types
        weights = {weight.name for weight in graph.initializer}
        self.inputs = [_tensor(value, "input") for value in graph.input if value.name not in weights]
        self.outputs = [_tensor(value, "output") for value in graph.output]
        known = {tensor.name: tensor for tensor in (*self.inputs, *self.outputs)}

        def tensor(name: str) -> Tensor:
            return known.setdefault(name, Tensor(name, TYPES.get(types.get(name, 0), "FLOAT")))

        self.layers = [
            Layer(node, [tensor(name) for name in node.input if name], [tensor(name) for name in node.output if name])
            for node in graph.node
        ]


class ParserError:
    """See `ParserError`."""

    def __init__(self, refusal: onnx_rules.Refusal, node: onnx.NodeProto | None) -> None:
        self._refusal, self._node = refusal, node

    def code(self) -> str:
        return "UNSUPPORTED_NODE"

    def desc(self) -> str:
        return self._refusal.text

    def node(self) -> int:
        return self._refusal.node

    def node_name(self) -> str:
        return self._node.name if self._node is not None else ""

    def node_operator(self) -> str:
        return self._node.op_type if self._node is not None else ""


class OnnxParser:
    """See `OnnxParser`."""

    def __init__(self, world: World, network: Network, logger: Any) -> None:
        self._world, self._network, self._logger = world, network, logger
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def clear_errors(self) -> None:
        self._errors = []

    def parse(self, content: Any, path: str | None = None) -> bool:
        try:
            model = onnx.load_model_from_string(bytes(content))
        except Exception as error:  # whatever protobuf finds
            return self._refuse([onnx_rules.Refusal(-1, f"Failed to parse ONNX model from buffer: {error}")], None)
        if not self._network.explicit:
            return self._refuse(
                [onnx_rules.Refusal(-1, "This version of the parser only supports EXPLICIT_BATCH")], model
            )
        types = onnx_rules.element_types(model)
        found = list(onnx_rules.refusals(model, types, self._world.major))
        if found:
            return self._refuse(found, model)
        if self._world.major == 8:  # which has no 64-bit integers
            types = {name: TensorProto.INT32 if kind == TensorProto.INT64 else kind for name, kind in types.items()}
        self._network.fill(model, types)
        return True

    def _refuse(self, found: list[onnx_rules.Refusal], model: onnx.ModelProto | None) -> bool:
        for refusal in found:
            node = model.graph.node[refusal.node] if model is not None and refusal.node >= 0 else None
            self._errors.append(ParserError(refusal, node))
            self._world.say_error(self._logger, f"ModelImporter.cpp: {refusal.text}")
        return False


def _tensor(value: onnx.ValueInfoProto, role: str) -> Tensor:
    kind = value.type.tensor_type
    shape = tuple(extent.dim_value if extent.HasField("dim_value") else -1 for extent in kind.shape.dim)
    return Tensor(value.name, TYPES[kind.elem_type], shape, role=role)
