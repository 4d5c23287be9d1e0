"""Multiplying a tensor's channels by factors without changing what a graph computes.

The layer that makes the tensor multiplies its weights and bias by the factors; what reads it divides its columns by
them. Between the two, a factor goes through whatever computes f(r * x) = r * f(x) for every r > 0. An addition needs
one factor on all that it adds, so a residual chain is scaled as a whole, back to its first layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from nddr_deploy.graph.fusion_layers import CHANNEL_AXES
from nddr_deploy.graph.roles import Flow
from nddr_deploy.graph.scaled_weights import NOT_SCALED, Axis, ScaledWeight, scale_weights
from nddr_deploy.tasks.base import Array

KEEPING_SCALE = {
    "AveragePool",
    "Dropout",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Identity",
    "LeakyRelu",
    "MaxPool",
    "PRelu",
    "Relu",
}
ADDING = {"Add", "Sub", "Sum", "Max", "Min"}
_DIMENSIONS = 4  # of a map: (N, C, H, W)


class ScaleError(Exception):
    """A factor would change what the graph computes; the text says where."""


@dataclass
class Region:
    """The tensors that take part when one tensor's channels are multiplied.

    Attributes:
        channels: tensor -> per channel its place among the factors, or NOT_SCALED.
        weights: what has to change with them.
    """

    channels: dict[str, Array] = field(default_factory=dict)
    weights: list[ScaledWeight] = field(default_factory=list)


def region_of(flow: Flow, shapes: Mapping[str, tuple[int | None, ...]], outputs: Iterable[str], tensor: str) -> Region:
    """All that has to be scaled with a tensor (N, C, H, W).

    Args:
        flow: the graph.
        shapes: of its tensors.
        outputs: names of the graph's outputs.

    Raises:
        ScaleError: the factors would reach something that they change.
    """
    growth = _Growth(flow, shapes, set(outputs))
    return growth.grown(tensor, np.arange(growth.width(tensor)))


class _Growth:
    def __init__(self, flow: Flow, shapes: Mapping[str, tuple[int | None, ...]], outputs: set[str]) -> None:
        self.flow, self.shapes, self.outputs = flow, shapes, outputs
        self.region = Region()
        self.waiting: list[str] = []
        self.joined: dict[int, None] = {}  # Concat nodes whose result is named once all their parts are known

    def grown(self, tensor: str, channels: Array) -> Region:
        self._include(tensor, channels)
        while self.waiting or self.joined:
            if self.waiting:
                name = self.waiting.pop()
                self._up(name)
                self._down(name)
            else:
                number = next(iter(self.joined))
                del self.joined[number]
                self._include(self.flow.nodes[number].output[0], self._join(number))
        return self.region

    def _include(self, tensor: str, channels: Array) -> None:
        known = self.region.channels.get(tensor)
        if known is not None:
            if not np.array_equal(known, channels):
                raise ScaleError(f"{tensor!r} would need two factors per channel")
            return
        if tensor in self.outputs:
            raise ScaleError(f"{tensor!r} is an output of the model")
        shape = self.shapes.get(tensor, (None, None, None, None))
        if len(shape) != _DIMENSIONS or shape[1] not in (None, len(channels)):
            raise ScaleError(f"{tensor!r} has other channels than what it is computed with")
        self.region.channels[tensor] = channels
        self.waiting.append(tensor)

    def _change(self, node: int, place: int, along: Axis, channels: Array, *, inverse: bool = False) -> None:
        name = self.flow.nodes[node].input[place]
        if name not in self.flow.constants:
            raise ScaleError(f"{name!r}, a weight of {self._named(node)}, is computed")
        self.region.weights.append(ScaledWeight(node, place, along, inverse, channels))

    def _up(self, tensor: str) -> None:
        """To what makes the tensor."""
        channels = self.region.channels[tensor]
        number = self.flow.makers.get(tensor)
        if number is None:
            raise ScaleError(f"{tensor!r} is an input of the model")
        node = self.flow.nodes[number]
        operation = node.op_type
        if operation in ("Conv", "ConvTranspose"):
            self._change(number, 1, "outputs", channels)
            if len(node.input) > 2 and node.input[2]:
                self._change(number, 2, "outputs", channels)
        elif operation == "BatchNormalization":
            self._change(number, 1, "outputs", channels)
            self._change(number, 2, "outputs", channels)
        elif operation in ("Mul", "Div"):
            place = self._constant_place(number)
            self._change(number, place, "channels", channels, inverse=operation == "Div")
        elif operation == "Concat":
            self._check_joins_channels(number)
            start = 0
            for name in node.input:
                end = start + self.width(name)
                if (channels[start:end] != NOT_SCALED).any():
                    self._include(name, channels[start:end])
                start = end
        else:
            self._through(number, tensor, channels)

    def _down(self, tensor: str) -> None:
        """To what reads the tensor."""
        channels = self.region.channels[tensor]
        for number in self.flow.readers.get(tensor, ()):
            node = self.flow.nodes[number]
            operation = node.op_type
            if operation == "Shape":
                continue
            if operation in ("Conv", "ConvTranspose") and node.input[0] == tensor:
                self._change(number, 1, "inputs", channels, inverse=True)
            elif operation == "BatchNormalization" and node.input[0] == tensor:
                self._change(number, 1, "outputs", channels, inverse=True)
                self._change(number, 3, "outputs", channels)  # (r x - r mean) / r
            elif operation in ("Mul", "Div"):
                self._change(number, self._constant_place(number), "channels", channels, inverse=operation == "Mul")
            elif operation == "Concat":
                self._check_joins_channels(number)
                self.joined[number] = None
            else:
                self._through(number, tensor, channels)

    def _through(self, number: int, tensor: str, channels: Array) -> None:
        """An operation behind which, and before which, the factors are the same."""
        node = self.flow.nodes[number]
        if node.op_type in ADDING:
            for place, name in enumerate(node.input):
                if name in self.flow.constants:
                    change = ScaledWeight(number, place, "channels", False, channels)
                    if not any(_same(change, known) for known in self.region.weights):
                        self.region.weights.append(change)
                else:
                    self._include(name, channels)
        elif node.op_type in KEEPING_SCALE or _keeps_scale(node, self.flow.constants):
            if tensor in node.input[1:] or any(name and self.flow.readers.get(name) for name in node.output[1:]):
                raise ScaleError(f"{tensor!r} goes into {self._named(number)} as something else than its values")
            self._include(node.input[0], channels)
        else:
            verb = "comes from" if tensor in node.output else "goes into"
            raise ScaleError(f"{tensor!r} {verb} {self._named(number)}, which no factor goes through")
        self._include(node.output[0], channels)

    def _constant_place(self, number: int) -> int:
        """Which input of a Mul or Div is the weight."""
        node = self.flow.nodes[number]
        places = [place for place, name in enumerate(node.input) if name in self.flow.constants]
        if len(places) != 1 or (node.op_type == "Div" and places != [1]):
            raise ScaleError(f"{self._named(number)} multiplies or divides two computed tensors")
        return places[0]

    def _join(self, number: int) -> Array:
        names = self.flow.nodes[number].input
        known = self.region.channels
        return np.concatenate(
            [known[name] if name in known else np.full(self.width(name), NOT_SCALED) for name in names]
        )

    def _check_joins_channels(self, number: int) -> None:
        axis = next(entry.i for entry in self.flow.nodes[number].attribute if entry.name == "axis")
        if axis not in CHANNEL_AXES:
            raise ScaleError(f"{self._named(number)} does not join channels")

    def width(self, tensor: str) -> int:
        """Channels of a tensor."""
        channels = self.shapes.get(tensor, (None, None))[1]
        if channels is None:
            raise ScaleError(f"the channels of {tensor!r} are not known")
        return channels

    def _named(self, number: int) -> str:
        node = self.flow.nodes[number]
        return f"{node.op_type} node {node.name or node.output[0]!r}"


def _same(one: ScaledWeight, other: ScaledWeight) -> bool:
    return (one.node, one.place, one.along) == (other.node, other.place, other.along)


def _keeps_scale(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    """Resizing, unless it puts a value of its own outside; padding with zeros, infinity, or the map's own values."""
    settings = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if node.op_type == "Resize":
        cropping = settings.get("coordinate_transformation_mode") == b"tf_crop_and_resize"
        return not (cropping and settings.get("extrapolation_value", 0.0))
    if node.op_type != "Pad" or len(node.input) > 3:  # where axes are chosen, the amounts are others
        return False
    if settings.get("mode", b"constant") != b"constant":
        return True
    if len(node.input) < 3 or not node.input[2]:
        return not settings.get("value", 0.0)  # until opset 10 an attribute
    value = constants.get(node.input[2])
    return value is not None and (float(numpy_helper.to_array(value)) in (0, np.inf, -np.inf))


def scale(model: onnx.ModelProto, regions: Iterable[tuple[Region, Array]]) -> None:
    """Multiply each region's channels by its factors, in place.

    Args:
        model: whose graph the regions are of.
        regions: and their factors, float64 (C,), all above zero.
    """
    scale_weights(model, [(weight, factors) for region, factors in regions for weight in region.weights])
