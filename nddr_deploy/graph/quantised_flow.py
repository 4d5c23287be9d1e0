"""A graph seen by its QuantizeLinear and DequantizeLinear nodes: what is on which grid, which layers are in int8."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from nddr_deploy.graph.flat import constants_as_weights
from nddr_deploy.graph.roles import QUANTISING, Flow
from nddr_deploy.tasks.base import Array

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # what multiplies an activation by weights
_INTEGERS = {  # the smallest and the largest
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-(2**15), 2**15 - 1),
    TensorProto.UINT16: (0, 2**16 - 1),
}


@dataclass(frozen=True, eq=False)
class Grid:
    """The numbers that the integers of one node stand for: scale * (integer - zero point).

    Attributes:
        scale: float64, () or (1,) for a tensor, (C,) per channel; None where it is computed.
        zero_point: int64, likewise; 0 where it is left out, None where it is computed.
        kind: the integers' type, as TensorProto has it.
        scale_kind: the type of the scale, and so of the numbers.
        axis: of the channels.
    """

    scale: Array | None
    zero_point: Array | None
    kind: int
    scale_kind: int
    axis: int

    @property
    def per_channel(self) -> bool:
        return self.scale is not None and self.scale.size > 1

    def same(self, other: Grid) -> bool:
        """Whether integers mean the same on both. A scale may have been rounded to FP16 on one side."""
        if self.scale is None or other.scale is None or self.zero_point is None or other.zero_point is None:
            return False
        half = TensorProto.FLOAT16 in (self.scale_kind, other.scale_kind)
        return (
            self.kind == other.kind
            and self.scale.size == other.scale.size
            and bool(np.allclose(self.scale.ravel(), other.scale.ravel(), rtol=1e-3 if half else 1e-6, atol=0))
            and bool(np.all(self.zero_point.ravel() == other.zero_point.ravel()))
        )

    def __str__(self) -> str:
        if self.scale is None or self.zero_point is None:
            return "a computed scale"
        if self.per_channel:
            return f"{self.scale.size} scales of {self.scale.min():.4g} to {self.scale.max():.4g}"
        zero = f", zero point {int(self.zero_point.ravel()[0])}" if self.zero_point.any() else ""
        return f"scale {self.scale.item():.4g}{zero}"


@dataclass(frozen=True)
class Layer:
    """A weighted node that reads dequantised values and dequantised weights, so it may run in int8.

    Attributes:
        number: of its node.
        values, weights: numbers of the DequantizeLinear nodes that it reads.
    """

    number: int
    values: int
    weights: int


class QuantisedFlow:
    """What the rules for Q/DQ look at; nodes are spoken of by number.

    Attributes:
        flow: of the graph, its Constant nodes as weights.
        outputs: names of the graph's outputs.
        opset: of the graph.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.outputs = {value.name for value in model.graph.output}
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
        self.flow = Flow(constants_as_weights(model))
        self._grids: dict[int, Grid] = {}

    def node(self, number: int) -> onnx.NodeProto:
        return self.flow.nodes[number]

    def named(self, number: int) -> str:
        """For people."""
        return named(self.node(number))

    def operation(self, number: int) -> str:
        return str(self.node(number).op_type)

    @cached_property
    def quantising(self) -> tuple[int, ...]:
        """The Q and DQ nodes."""
        return tuple(number for number, node in enumerate(self.flow.nodes) if node.op_type in QUANTISING)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that may run in int8, in the graph's order."""
        found = []
        for number in self.weighted:
            values, weights = (self.dequantiser(name) for name in self.node(number).input[:2])
            if values is not None and weights is not None and values in self.flow.reached:
                found.append(Layer(number, values, weights))
        return tuple(found)

    @cached_property
    def weighted(self) -> tuple[int, ...]:
        """The nodes that multiply an activation by weights, in int8 or not; not a product of two activations."""
        return tuple(
            number
            for number in sorted(self.flow.weighted)
            if self.operation(number) in LAYERS and not self.is_activation(self.node(number).input[1])
        )

    def is_activation(self, tensor: str) -> bool:
        """Whether a tensor depends on the images; the graph's inputs count."""
        maker = self.flow.makers.get(tensor)
        return tensor not in self.flow.constants if maker is None else maker in self.flow.reached

    def grid(self, number: int) -> Grid:
        """Of a Q or DQ node."""
        if number not in self._grids:
            self._grids[number] = self._grid(self.node(number))
        return self._grids[number]

    def dequantiser(self, tensor: str) -> int | None:
        """The DequantizeLinear that makes a tensor."""
        maker = self.flow.makers.get(tensor)
        return maker if maker is not None and self.operation(maker) == "DequantizeLinear" else None

    def quantisers(self, tensor: str) -> list[int]:
        """The QuantizeLinear nodes that a tensor goes into."""
        return [
            reader
            for reader in self.flow.readers.get(tensor, ())
            if self.operation(reader) == "QuantizeLinear" and self.node(reader).input[0] == tensor
        ]

    def grid_of(self, tensor: str) -> Grid | None:
        """The grid that a tensor is on already, or that it is put on; None where it stays in float."""
        numbers = [self.dequantiser(tensor), *self.quantisers(tensor)]
        return next((self.grid(number) for number in numbers if number is not None), None)

    def before_pair(self, tensor: str) -> str:
        """The tensor that was quantised and dequantised to give this one; itself where there is no pair."""
        dequantiser = self.dequantiser(tensor)
        if dequantiser is None:
            return tensor
        quantiser = self.flow.makers.get(self.node(dequantiser).input[0])
        if quantiser is None or self.operation(quantiser) != "QuantizeLinear":
            return tensor
        return str(self.node(quantiser).input[0])

    def only_reader(self, number: int) -> int | None:
        """The one node that reads what this one makes; None where there are several, or the caller reads it."""
        name = self.node(number).output[0]
        readers = self.flow.readers.get(name, ())
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def integers(self, dequantiser: int) -> Array | None:
        """The weights that a DequantizeLinear reads, as integers; None where they are computed."""
        stored = self.node(dequantiser).input[0]
        if stored in self.flow.constants:
            return _array(self.flow.constants[stored])
        quantiser = self.flow.makers.get(stored)
        if quantiser is None or self.operation(quantiser) != "QuantizeLinear":
            return None
        weight, grid = self.node(quantiser).input[0], self.grid(quantiser)
        if weight not in self.flow.constants or grid.scale is None or grid.zero_point is None:
            return None
        values = _array(self.flow.constants[weight]).astype(np.float64)
        scale, zero = (_along(part, values.ndim, grid.axis) for part in (grid.scale, grid.zero_point))
        with np.errstate(divide="ignore", invalid="ignore"):
            rounded = np.nan_to_num(np.rint(values / scale))
        integers: Array = np.clip(rounded + zero, *_INTEGERS.get(grid.kind, (-128, 127)))
        return integers

    def moving(self, operations: Sequence[str]) -> Iterator[int]:
        """The nodes of these operations that depend on the images, in the graph's order."""
        return (number for number in sorted(self.flow.reached) if self.operation(number) in operations)

    def _grid(self, node: onnx.NodeProto) -> Grid:
        constants = self.flow.constants
        scale = constants.get(node.input[1])
        name = node.input[2] if len(node.input) > 2 else ""
        zero: Array | None = np.zeros((), np.int64)
        if name:
            zero = _array(constants[name]).astype(np.int64) if name in constants else None
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        return Grid(
            scale=None if scale is None else _array(scale).astype(np.float64),
            zero_point=zero,
            kind=self._kind(node, name, attributes.get("output_dtype", 0)),
            scale_kind=TensorProto.UNDEFINED if scale is None else int(scale.data_type),
            axis=attributes.get("axis", 1),
        )

    def _kind(self, node: onnx.NodeProto, zero_point: str, output_dtype: int) -> int:
        """Without a zero point, the type is that of the integers, which are unsigned where they are made here."""
        constants = self.flow.constants
        if zero_point in constants:
            return int(constants[zero_point].data_type)
        if node.op_type == "QuantizeLinear":
            return int(TensorProto.UNDEFINED) if zero_point else output_dtype or int(TensorProto.UINT8)
        stored = node.input[0]
        if stored in constants:
            return int(constants[stored].data_type)
        maker = self.flow.makers.get(stored)
        if maker is not None and self.operation(maker) == "QuantizeLinear":
            return self.grid(maker).kind
        return int(TensorProto.UNDEFINED)


def named(node: onnx.NodeProto) -> str:
    """`Conv node 'backbones.depth.stage1.0/Conv'`, for people."""
    return f"{node.op_type} node {name_of(node)!r}"


def name_of(node: onnx.NodeProto) -> str:
    """The node's name; in graphs that name none, its first output's."""
    return str(node.name or (node.output[0] if node.output else ""))


def kind_name(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)).lower()


def _array(weight: onnx.TensorProto) -> Array:
    values: Array = numpy_helper.to_array(weight)
    return values


def _along(values: Array, dimensions: int, axis: int) -> Array:
    """Values per channel, so that they go with a tensor."""
    if values.size == 1:
        return values.reshape(())
    shape = [1] * dimensions
    shape[axis] = -1
    return values.reshape(shape)
