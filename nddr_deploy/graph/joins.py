"""What each task's stream is made of where streams meet: NDDR, cross-stitch and sluice units as weights per channel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from nddr_deploy.graph.flat import constants_as_weights
from nddr_deploy.graph.fusion_layers import FusionLayer, fusion_layers
from nddr_deploy.graph.in_float import in_float
from nddr_deploy.graph.roles import Flow
from nddr_deploy.tasks.base import Array

EVERY = slice(None)
_MIX = re.compile(r"(fusions)_(\d+)_mix_")  # the export computes a mixing matrix's entries and names them so
_SOURCE = re.compile(r"stages\.\d+\.([^./]+)[./]")
_TARGET = re.compile(r"(?:stages\.\d+|heads|(?:shortcut|depth_mixing)\.layers)\.([^./]+)[./]")


@dataclass(frozen=True)
class Term:
    """What a task takes from some channels.

    Attributes:
        stream: whose channels they are.
        tensor: that holds them, (N, C, H, W), as the weights meet it.
        channels: which of the C.
        weights: (channels,), or (1,) for all of them: the norm of the weights that a channel is multiplied by.
    """

    stream: str
    tensor: str
    channels: slice
    weights: Array


@dataclass(frozen=True)
class Join:
    """The sum that one task's stream becomes at one fusion layer.

    Attributes:
        layer: as in "fusions.0".
        task: whose stream goes on with it.
        terms: at least one per stream that it is made of.
        blocks: whether each stream has columns of a 1x1 convolution, which can be cut.
    """

    layer: str
    task: str
    terms: tuple[Term, ...]
    blocks: bool


def joins(model: onnx.ModelProto) -> tuple[Join, ...]:
    """Every task at every fusion layer, in the order of the layers; a stream that passes unchanged is left out.

    Args:
        model: flat, in float32, see `in_float`; left as it was.

    Raises:
        ModelFileError, UnsupportedError: as `fusion_layers`.
    """
    plain = constants_as_weights(in_float(model))
    found = [join for layer in fusion_layers(plain) for join in _of_layer(plain, layer)]
    return tuple(found or _of_mixes(Flow(plain)))


def _of_layer(model: onnx.ModelProto, layer: FusionLayer) -> Iterator[Join]:
    nodes = {node.name or node.output[0]: node for node in model.graph.node}
    weights = {weight.name: weight for weight in model.graph.initializer}
    for task, name in layer.convolutions.items():
        node = nodes[name]
        squares = np.square(numpy_helper.to_array(weights[node.input[1]]).astype(np.float64))
        norms = np.sqrt(squares.sum(axis=(0, 2, 3)))  # (in,): of each input channel's column
        terms = [Term(s.task, node.input[0], s.columns, norms[s.columns]) for s in layer.streams]
        yield Join(layer.name, task, tuple(terms), blocks=True)


def _of_mixes(flow: Flow) -> list[Join]:
    """Cross-stitch and sluice units: sums of streams (or halves of them), each times one entry of a matrix."""
    terms: dict[tuple[str, str], list[Term]] = {}
    for number, node in enumerate(flow.nodes):
        entry = next((name for name in node.input if _MIX.match(name) and name in flow.constants), None)
        if node.op_type != "Mul" or entry is None:
            continue
        (source,) = (name for name in node.input if name != entry)
        named, layer = _SOURCE.match(source), _MIX.match(entry)
        if named and layer:
            task = _goes_on_in(flow, _sum_of(flow, number)) or named[1]
            value: Array = np.abs(numpy_helper.to_array(flow.constants[entry]).astype(np.float64)).reshape(-1)
            terms.setdefault((f"{layer[1]}.{layer[2]}", task), []).append(Term(named[1], source, EVERY, value))
    return [Join(layer, task, tuple(found), blocks=False) for (layer, task), found in terms.items()]


def _sum_of(flow: Flow, number: int) -> str:
    """The last of the sums that a product goes into."""
    while True:
        tensor = str(flow.nodes[number].output[0])
        readers = flow.readers.get(tensor, [])
        if len(readers) != 1 or flow.nodes[readers[0]].op_type != "Add":
            return tensor
        number = readers[0]


def _goes_on_in(flow: Flow, tensor: str) -> str:
    """The task that a fused stream goes on in: what the first weights behind it are named after; empty if nothing."""
    seen: set[int] = set()
    waiting: list[int] = list(flow.readers.get(tensor, []))
    while waiting:
        number = waiting.pop(0)
        if number in seen:
            continue
        seen.add(number)
        names = [
            match[1] for name in flow.nodes[number].input if name in flow.constants and (match := _TARGET.match(name))
        ]
        if names and names[0] != "shared":
            return names[0]
        waiting.extend(flow.following(number))
    return ""
