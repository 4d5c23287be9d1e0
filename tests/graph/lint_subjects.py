"""One quantised network that breaks no rule, built by hand for each target, and ways to break it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from graph_subjects import small
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 16  # with fewer, int8 would not be worth it


class Network:
    """Nodes and weights of a network in the making; a target's own form is in here and nowhere else."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.cpu = target == "cpu"
        self.kind = np.float16 if target == "tensorrt" else np.float32
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Any] = {}
        self.scales: dict[str, float] = {}  # dequantised tensor -> its scale
        self.rng = np.random.default_rng(5)

    def add(self, operation: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operation, inputs, [name], name=name, **attributes))
        return name

    def pair(self, source: str, scale: float, *, positive: bool = True) -> str:
        """`source` -> Q -> DQ -> `source.dq`; on CPUs the zero point of what may be negative is 128."""
        zero = np.uint8(0 if positive else 128) if self.cpu else np.int8(0)
        self.weights |= {f"{source}.scale": self.kind(scale), f"{source}.zero": zero}
        self.add("QuantizeLinear", [source, f"{source}.scale", f"{source}.zero"], f"{source}.q")
        name = self.add("DequantizeLinear", [f"{source}.q", f"{source}.scale", f"{source}.zero"], f"{source}.dq")
        self.scales[name] = scale
        return name

    def conv(self, name: str, source: str, into: int = CHANNELS, out: int = CHANNELS, size: int = 3) -> str:
        """A quantised convolution with a bias."""
        scale = self.rng.uniform(0.005, 0.02, out).astype(self.kind)
        self.weights |= {
            f"{name}.w.int8": self.rng.integers(-64, 65, (out, into, size, size), dtype=np.int8),
            f"{name}.w.scale": scale,
            f"{name}.w.zero": np.zeros(out, np.int8),
        }
        self.add("DequantizeLinear", [f"{name}.w.{part}" for part in ("int8", "scale", "zero")], f"{name}.w", axis=0)
        bias = self.rng.normal(0, 0.5, out)
        if self.cpu:
            products = scale * np.float32(self.scales[source])
            self.weights |= {
                f"{name}.b.int32": np.rint(bias / products).astype(np.int32),
                f"{name}.b.scale": products,
                f"{name}.b.zero": np.zeros(out, np.int32),
            }
            parts = [f"{name}.b.{part}" for part in ("int32", "scale", "zero")]
            self.add("DequantizeLinear", parts, f"{name}.b", axis=0)
        else:
            self.weights[f"{name}.b"] = bias.astype(self.kind)
        return self.add("Conv", [source, f"{name}.w", f"{name}.b"], name, pads=[size // 2] * 4)

    def float_conv(self, name: str, source: str, into: int, out: int) -> str:
        self.weights[f"{name}.w"] = self.rng.normal(0, 0.3, (out, into, 1, 1)).astype(self.kind)
        return self.add("Conv", [source, f"{name}.w"], name)

    def relu(self, source: str) -> str:
        return self.add("Relu", [source], f"{source}.relu")

    def model(self) -> onnx.ModelProto:
        built = small(self.nodes, self.weights, opset=19 if self.target == "tensorrt" else 17)
        onnx.checker.check_model(built, full_check=True)
        return built


def sound(target: str) -> onnx.ModelProto:
    """Two streams that a fusion joins, a residual block and a head; nothing in it breaks a rule of its target.

    stem (float) -> left -> pool --\\
                 \\-> right --------- both -> fusion -> inner -> sum -> late -> y (float)
    """
    net = Network(target)
    half = target == "tensorrt"
    images = net.add("Cast", ["x"], "x.half", to=TensorProto.FLOAT16) if half else "x"
    stem = net.pair(net.relu(net.float_conv("stem", images, 3, CHANNELS)), 0.01)
    left = net.pair(net.relu(net.conv("left", stem)), 0.02)
    right = net.pair(net.relu(net.conv("right", stem)), 0.02)
    pool = net.pair(net.add("MaxPool", [left], "pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), 0.02)
    both = net.pair(net.add("Concat", [pool, right], "both", axis=1), 0.02)
    fusion = net.pair(net.relu(net.conv("fusion", both, into=2 * CHANNELS, size=1)), 0.04)
    inner = net.conv("inner", fusion)
    if net.cpu:
        inner = net.pair(inner, 0.05, positive=False)
    total = net.pair(net.relu(net.add("Add", [inner, fusion], "sum")), 0.06)
    late = net.relu(net.conv("late", total))
    last = net.float_conv("last" if half else "y", net.pair(late, 0.05) if net.cpu else late, CHANNELS, 5)
    if half:
        net.add("Cast", [last], "y", to=TensorProto.FLOAT)
    return net.model()


# Ways to break a graph; all in place.


def node_of(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def weight_of(model: onnx.ModelProto, name: str) -> Any:
    return numpy_helper.to_array(next(weight for weight in model.graph.initializer if weight.name == name)).copy()


def put(model: onnx.ModelProto, **arrays: Any) -> None:
    """Weights anew; `__` stands for a dot. A scalar keeps the type that the weight had."""
    for key, value in arrays.items():
        name = key.replace("__", ".")
        found = [weight for weight in model.graph.initializer if weight.name == name]
        kind = (
            numpy_helper.to_array(found[0]).dtype
            if found and np.isscalar(value) and not hasattr(value, "dtype")
            else None
        )
        written = numpy_helper.from_array(np.asarray(value, kind), name)
        if found:
            found[0].CopyFrom(written)
        else:
            model.graph.initializer.append(written)


def insert_after(model: onnx.ModelProto, name: str, *nodes: onnx.NodeProto) -> None:
    """Further nodes, named by their outputs, behind the one of that name."""
    place = next(place for place, node in enumerate(model.graph.node) if node.name == name) + 1
    for node in reversed(nodes):
        node.name = node.name or node.output[0]
        model.graph.node.insert(place, node)


def read_instead(model: onnx.ModelProto, reader: str, old: str, new: str) -> None:
    node = node_of(model, reader)
    assert old in node.input
    node.input[:] = [new if name == old else name for name in node.input]


def pair(source: str, scale: str, zero: str, name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [source, scale, zero], [f"{name}.q"]),
        helper.make_node("DequantizeLinear", [f"{name}.q", scale, zero], [name]),
    ]
