"""Where the streams of a network meet: the NDDR layers of a graph."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from nddr_deploy.errors import ConfigError, UnsupportedError, unknown_choice
from nddr_deploy.graph.flat import check_flat, constants_as_weights
from nddr_deploy.graph.inference import infer, skeleton, tensor_shapes
from nddr_deploy.graph.merge_convolutions import is_product
from nddr_deploy.graph.roles import QUANTISING, Flow

CHANNEL_AXES = (1, -3)  # of (N, C, H, W)
PER_CHANNEL = {"Mul", "Div", "Add", "Sub", "BatchNormalization", "Relu", "LeakyRelu", "PRelu", "Clip", "Identity"}
_CONVERTING = QUANTISING | {"Cast"}
_PASSING = PER_CHANNEL | _CONVERTING | {"Dropout"}
_OURS = re.compile(r"(?P<layer>(?:.*\.)?fusions\.\d+)\.layers\.(?P<task>[^./]+)\.")
_NOT_FUSION = re.compile(r"(?:.*\.)?(?:stages|shortcut|depth_mixing|heads)\.")
_STREAM = re.compile(r"(?:.*\.)?(?:stages\.\d+|fusions\.\d+\.layers)\.(?P<task>[^./]+)\.")


@dataclass(frozen=True)
class Stream:
    """One stream's part of a Concat.

    Attributes:
        task: whose stream it is.
        tensor: what the Concat reads, (N, channels, H, W).
        first: its first channel in the Concat's result.
        channels: how many.
    """

    task: str
    tensor: str
    first: int
    channels: int

    @property
    def columns(self) -> slice:
        """Of the convolutions' weights, dimension 1."""
        return slice(self.first, self.first + self.channels)


@dataclass(frozen=True)
class FusionLayer:
    """A Concat over streams and the 1x1 convolutions that read it.

    Attributes:
        name: as in "fusions.0"; in a graph without our names that of the Concat.
        concat: name of its node.
        tensor: what it makes.
        streams: in the Concat's order.
        convolutions: task -> name of the node, in the graph's order. Fewer than streams where fusion is one-sided.
        between: names of the nodes between the Concat and the convolutions: what could not be folded, or Q/DQ.
    """

    name: str
    concat: str
    tensor: str
    streams: tuple[Stream, ...]
    convolutions: Mapping[str, str]
    between: tuple[str, ...] = ()


def fusion_layers(model: onnx.ModelProto) -> tuple[FusionLayer, ...]:
    """The NDDR layers of a graph, in its order.

    A layer is a Concat over channels whose every reader is a 1x1 convolution, or leads to some through operations that
    treat each channel by itself. Node names of `nddr-export` tell which of those are NDDR layers, and whose stream is
    whose. Without such names it is one where K parts of C channels meet K convolutions from K * C to C channels, and
    no part is made from another one: so neither is the shortcut, which joins stages, nor an ASPP. Its tasks are then
    called "stream0", "stream1", ....

    Where every task reads the streams in an order of its own (`own_first`), each has its Concat, and so a
    `FusionLayer` of its own; they have one name.

    Cross-stitch and sluice units are no such layers: each stream is multiplied by itself and added, so streams share
    no scale.

    Args:
        model: flat; left as it was. It may be quantised or in FP16.

    Raises:
        UnsupportedError, ModelFileError: a graph that is not flat, or whose shapes contradict each other.
    """
    check_flat(model)
    plain = constants_as_weights(model)
    flow = Flow(plain)
    weights = _weights(flow)
    shapes = tensor_shapes(infer(skeleton(plain)))
    found = []
    for node in flow.nodes:
        widths = _widths(node, shapes)
        reading = _readers(flow, node.output[0], weights) if widths else None
        if reading is not None and reading.convolutions:
            layer = _named(node, widths, reading) or _unnamed(flow, node, widths, reading, weights)
            if layer is not None:
                found.append(layer)
    return tuple(found)


def check_known(layers: Sequence[FusionLayer], names: Iterable[str]) -> None:
    """Refuse names that no layer has.

    Raises:
        ConfigError: names the layers that there are.
    """
    known = list(dict.fromkeys(layer.name for layer in layers))
    for name in names:
        if not known:
            raise ConfigError(f"The model has no NDDR layer, so none called {name!r}. Give a network with NDDR layers.")
        if name not in known:
            raise unknown_choice("An NDDR layer", name, known)


def check_direct(layer: FusionLayer) -> None:
    """Refuse a layer whose convolutions do not read its Concat itself.

    Raises:
        UnsupportedError: names what is between.
    """
    if layer.between:
        raise UnsupportedError(
            f"{layer.name} has {layer.between[0]!r} between its Concat and its convolutions; expected nothing. Use the "
            "float32 file, with BatchNorm folded as nddr-export does."
        )


@dataclass(frozen=True)
class _Reading:
    convolutions: tuple[onnx.NodeProto, ...]
    between: tuple[str, ...]


def _weights(flow: Flow) -> dict[str, onnx.TensorProto]:
    """Weights by the names that nodes read them by, also behind Q/DQ or Cast."""
    weights = dict(flow.constants)
    for node in flow.nodes:
        if node.op_type in _CONVERTING and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    return weights


def _widths(node: onnx.NodeProto, shapes: Mapping[str, tuple[int | None, ...]]) -> list[int]:
    """How many channels each part has; nothing where this is no Concat over the channels of maps."""
    axes = [helper.get_attribute_value(entry) for entry in node.attribute if entry.name == "axis"]
    if node.op_type != "Concat" or axes[0] not in CHANNEL_AXES or len(node.input) < 2:
        return []
    parts = [shapes.get(name, ()) for name in node.input]
    widths = [part[1] for part in parts if len(part) == 4]
    return [width for width in widths if width] if len(widths) == len(parts) and all(widths) else []


def _readers(flow: Flow, tensor: str, weights: Mapping[str, onnx.TensorProto]) -> _Reading | None:
    """The 1x1 convolutions that a tensor leads to; None where it also leads to something else."""
    convolutions: dict[int, onnx.NodeProto] = {}
    between: dict[int, str] = {}
    waiting = [tensor]
    while waiting:
        name = waiting.pop()
        for number in flow.readers.get(name, ()):
            node = flow.nodes[number]
            if node.op_type == "Conv" and node.input[0] == name and is_product(node, weights):
                convolutions[number] = node
            elif node.op_type in _PASSING and all(other in weights for other in node.input if other not in ("", name)):
                between[number] = node.name or node.output[0]
                waiting.append(node.output[0])
            elif node.op_type != "Shape":
                return None
    return _Reading(tuple(convolutions[n] for n in sorted(convolutions)), tuple(between[n] for n in sorted(between)))


def _named(node: onnx.NodeProto, widths: Sequence[int], reading: _Reading) -> FusionLayer | None:
    """By the names that nddr-export gives."""
    matches = [_OURS.match(convolution.name) for convolution in reading.convolutions]
    if None in matches or len({match["layer"] for match in matches if match}) != 1:
        return None
    tasks = [match["task"] for match in matches if match]
    if len(set(tasks)) != len(tasks):
        return None
    streams = [match["task"] if (match := _STREAM.match(name)) else "" for name in node.input]
    if "" in streams or len(set(streams)) != len(streams):
        streams = tasks if len(tasks) == len(streams) else [f"stream{place}" for place in range(len(streams))]
    layer = next(match["layer"] for match in matches if match)
    return _layer(layer, node, streams, widths, tasks, reading)


def _unnamed(
    flow: Flow,
    node: onnx.NodeProto,
    widths: Sequence[int],
    reading: _Reading,
    weights: Mapping[str, onnx.TensorProto],
) -> FusionLayer | None:
    """By the shapes: K parts of C channels, K matrices from K * C to C channels."""
    if any(_OURS.match(c.name) or _NOT_FUSION.match(c.name) for c in reading.convolutions):
        return None
    outputs = [weights[convolution.input[1]].dims[0] for convolution in reading.convolutions]
    if len(outputs) != len(widths) or len({*widths, *outputs}) != 1 or _made_from_each_other(flow, node.input):
        return None
    tasks = [f"stream{place}" for place in range(len(widths))]
    return _layer(node.name or node.output[0], node, tasks, widths, tasks, reading)


def _layer(
    name: str,
    node: onnx.NodeProto,
    streams: Iterable[str],
    widths: Sequence[int],
    tasks: Sequence[str],
    reading: _Reading,
) -> FusionLayer:
    starts = [sum(widths[:place]) for place in range(len(widths))]
    parts = zip(streams, node.input, starts, widths, strict=True)
    convolutions = zip(tasks, (conv.name or conv.output[0] for conv in reading.convolutions), strict=True)
    return FusionLayer(
        name,
        node.name or node.output[0],
        node.output[0],
        tuple(Stream(*part) for part in parts),
        dict(convolutions),
        reading.between,
    )


def _made_from_each_other(flow: Flow, tensors: Sequence[str]) -> bool:
    """Whether one of them is computed from another one, as a later stage's is; resizing aside."""
    sources = [_unresized(flow, tensor) for tensor in tensors]
    if len(set(sources)) != len(sources):
        return True
    for source in sources:
        before: set[str] = set()
        waiting = [source]
        while waiting:
            maker = flow.makers.get(waiting.pop())
            if maker is not None:
                new = set(flow.nodes[maker].input) - before
                before |= new
                waiting += new
        if before.intersection(sources):
            return True
    return False


def _unresized(flow: Flow, tensor: str) -> str:
    maker = flow.makers.get(tensor)
    while maker is not None and flow.nodes[maker].op_type in ("Resize", "MaxPool", "AveragePool"):
        tensor = flow.nodes[maker].input[0]
        maker = flow.makers.get(tensor)
    return tensor
