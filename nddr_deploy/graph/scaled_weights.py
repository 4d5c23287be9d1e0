"""Multiplying the weights of a graph's nodes, per channel of what they read or make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

from nddr_deploy.tasks.base import Array

NOT_SCALED = -1
Axis = Literal["outputs", "inputs", "channels"]


@dataclass(frozen=True)
class ScaledWeight:
    """One weight to multiply, as one node reads it.

    Attributes:
        node, place: which input of which node.
        along: what of the weight the channels are.
        inverse: divide.
        channels: per channel its place among the factors, or NOT_SCALED.
    """

    node: int
    place: int
    along: Axis
    inverse: bool
    channels: Array


def scale_weights(model: onnx.ModelProto, scaled: Iterable[tuple[ScaledWeight, Array]]) -> None:
    """Multiply weights, in place, each rounded once however often it is multiplied.

    A weight that several nodes read becomes one of each node's own where they no longer agree on it.

    Args:
        model: without Constant nodes.
        scaled: weights and their factors, float64, all above zero.
    """
    weights = {weight.name: weight for weight in model.graph.initializer}
    changed: dict[tuple[int, int], Array] = {}
    for weight, factors in scaled:
        node = model.graph.node[weight.node]
        where = weight.node, weight.place
        values = changed.get(where)
        if values is None:
            values = numpy_helper.to_array(weights[node.input[weight.place]]).astype(np.float64)
        per_channel = np.where(weight.channels == NOT_SCALED, 1.0, factors[weight.channels])
        factor = _shaped(node, values, 1 / per_channel if weight.inverse else per_channel, weight.along)
        changed[where] = values * factor
    _write(model, weights, changed)


def _shaped(node: onnx.NodeProto, values: Array, factors: Array, along: Axis) -> Array:
    """Factors that broadcast against a node's weight or bias."""
    if along == "channels":  # of a constant that is added to, or multiplied with, a map
        return factors.reshape(-1, 1, 1)
    if values.ndim == 1:
        return factors
    groups = next((entry.i for entry in node.attribute if entry.name == "group"), 1)
    first, second = values.shape[:2]  # Conv: (outputs, inputs / groups); ConvTranspose: (inputs, outputs / groups)
    rest = (1,) * (values.ndim - 2)
    if (along == "outputs") == (node.op_type == "Conv"):
        return factors.reshape(first, 1, *rest)
    per_group = factors.reshape(groups, second)
    return np.repeat(per_group, first // groups, axis=0).reshape(first, second, *rest)


def _write(
    model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto], changed: Mapping[tuple[int, int], Array]
) -> None:
    readers: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, node in enumerate(model.graph.node):
        for place, name in enumerate(node.input):
            if name in weights:
                readers[name].append((number, place))
    names = {name for node in model.graph.node for name in (*node.input, *node.output)} | set(weights)
    for name in dict.fromkeys(model.graph.node[number].input[place] for number, place in changed):
        original = numpy_helper.to_array(weights[name])
        at_hand: dict[tuple[object, ...], str] = {}  # shape and bytes -> the name of that weight
        for number, place in readers[name]:
            values = np.asarray(changed.get((number, place), original), original.dtype, order="C")
            key = values.shape, values.tobytes()
            if not at_hand:
                at_hand[key] = name
                weights[name].CopyFrom(numpy_helper.from_array(values, name))
            elif key not in at_hand:
                at_hand[key] = next(free for free in (f"{name}_{n}" for n in count(2)) if free not in names)
                names.add(at_hand[key])
                model.graph.initializer.append(numpy_helper.from_array(values, at_hand[key]))
            model.graph.node[number].input[place] = at_hand[key]
