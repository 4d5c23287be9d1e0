"""Small float32 networks to quantise, their ranges, and what a quantised graph says about itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from graph_subjects import run, small
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.graph.calibration import Range
from nddr_deploy.graph.quantize import QuantisedGraph, observed, quantize

IMAGES = np.random.default_rng(3).integers(0, 256, (4, 1, 8, 10, 3), dtype=np.uint8)  # four batches of one


class Net:
    """Nodes and weights in the making; every method returns the name of the tensor that it adds."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Any] = {}
        self.rng = np.random.default_rng(7)

    def add(self, operation: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operation, inputs, [name], name=name, **attributes))
        return name

    def conv(self, name: str, source: str, into: int = 16, out: int = 16, size: int = 1, *, bias: bool = True) -> str:
        """Weights whose output channels differ 30-fold, as trained ones may."""
        scale = self.rng.uniform(0.02, 0.6, (out, 1, 1, 1)) / (size * size)
        self.weights[f"{name}.weight"] = (self.rng.normal(0, 1, (out, into, size, size)) * scale).astype(np.float32)
        inputs = [source, f"{name}.weight"]
        if bias:
            self.weights[f"{name}.bias"] = self.rng.normal(0, 0.3, out).astype(np.float32)
            inputs.append(f"{name}.bias")
        return self.add("Conv", inputs, name, pads=[size // 2] * 4)

    def relu(self, source: str) -> str:
        return self.add("Relu", [source], f"{source}.relu")

    def stem(self) -> str:
        """From the three channels of `x` to 16; stays in float."""
        return self.relu(self.conv("stem", "x", 3))

    def head(self, source: str, into: int = 16, name: str = "y") -> str:
        """Few channels, and the last layer; stays in float."""
        return self.conv(name, source, into, 4)

    def model(self, *outputs: str, opset: int = 17) -> onnx.ModelProto:
        model = small(self.nodes, self.weights, dict.fromkeys(outputs or ("y",), TensorProto.FLOAT), opset=opset)
        onnx.checker.check_model(model, full_check=True)
        return model


def chain(*, bias: bool = True) -> onnx.ModelProto:
    """stem (float) -> first -> second -> y (float), ReLU between them."""
    net = Net()
    first = net.relu(net.conv("first", net.stem(), bias=bias))
    net.head(net.relu(net.conv("second", first, size=3, bias=bias)))
    return net.model()


def residual() -> onnx.ModelProto:
    """stem -> (inner -> outer) + itself -> late -> y: a block with a plain identity, and one with a projection.

    The projection's branch goes through fewer layers, so it is the identity there.
    """
    net = Net()
    stem = net.stem()
    sum_ = net.relu(net.add("Add", [net.conv("outer", net.relu(net.conv("inner", stem))), stem], "sum"))
    deep = net.conv("deep2", net.relu(net.conv("deep1", sum_)))
    total = net.relu(net.add("Add", [net.conv("projection", sum_), deep], "total"))
    net.head(net.relu(net.conv("late", total)))
    return net.model()


def streams(count: int, *, pool: bool = True, into_float: bool = False) -> onnx.ModelProto:
    """An NDDR layer of that many streams: each 30 times as large as the one before.

    Args:
        pool: through a MaxPool before they are joined.
        into_float: the Concat is read by a layer of too few channels.
    """
    net = Net()
    stem = net.stem()
    joined = []
    for index in range(count):
        stream = net.relu(net.conv(f"stream{index}", stem))
        net.weights[f"stream{index}.weight"] *= np.float32(30.0**-index)
        net.weights[f"stream{index}.bias"] *= np.float32(30.0**-index)
        joined.append(net.add("MaxPool", [stream], f"pool{index}", kernel_shape=[2, 2]) if pool else stream)
    both = net.add("Concat", joined, "both", axis=1)
    for index in range(count):
        fused = net.relu(net.conv(f"fusion{index}", both, 16 * count, 4 if into_float else 16))
        net.head(fused, 4 if into_float else 16, f"y{index}")
    return net.model(*(f"y{index}" for index in range(count)))


def ranges_of(model: onnx.ModelProto, names: Collection[str]) -> dict[str, Range]:
    """The extremes over `IMAGES`."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    opened.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    infer = run(opened)
    found = [infer(images) for images in IMAGES]
    return {
        name: Range(
            float(min(values[name].min() for values in found)), float(max(values[name].max() for values in found))
        )
        for name in names
    }


def quantised(model: onnx.ModelProto, target: Any, **options: Any) -> QuantisedGraph:
    """By the extremes over `IMAGES`, checked by ONNX."""
    result = quantize(model, ranges_of(model, observed(model, target)), target, **options)
    onnx.checker.check_model(result.model, full_check=True)
    return result


@dataclass(frozen=True)
class Grid:
    """Of an activation."""

    scale: float
    zero: int
    kind: str


class Seen:
    """A quantised graph, looked at without any of the package's own code.

    Attributes:
        grids: tensor -> the grid of its pair.
        nodes: by name.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
        self.nodes = {node.name: node for node in model.graph.node}
        self.makers = {name: node for node in model.graph.node for name in node.output}
        quantisers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
        self.grids = {self._source(node): self.grid(node) for node in quantisers if node.input[0] not in self.weights}
        self.count = len(quantisers)

    def _source(self, quantiser: onnx.NodeProto) -> str:
        name = str(quantiser.input[0])
        maker = self.makers.get(name)
        return str(maker.input[0]) if maker is not None and maker.op_type == "Max" else name

    def grid(self, node: onnx.NodeProto) -> Grid:
        scale, zero = (self.weights[name] for name in node.input[1:3])
        return Grid(float(scale), int(zero), str(zero.dtype))

    def reads(self, node: str) -> list[str]:
        """What a node reads, as the tensors that were quantised and dequantised for it, in brackets."""
        found = []
        for name in self.nodes[node].input:
            maker = self.makers.get(name)
            if maker is not None and maker.op_type == "DequantizeLinear":
                stored = self.makers.get(maker.input[0])
                found.append(f"({self._source(stored)})" if stored is not None else f"({maker.input[0]})")
            else:
                found.append(str(name))
        return found


def optimised(model: onnx.ModelProto) -> Mapping[str, list[str]]:
    """Operation -> the nodes that ONNX Runtime makes of it for this processor, one name per node."""
    found: dict[str, list[str]] = {}
    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # it warns that such a file is for one kind of processor
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for node in onnx.load(options.optimized_model_filepath).graph.node:
            found.setdefault(node.op_type, []).append(node.name)
    return found
