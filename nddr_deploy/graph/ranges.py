"""How large the values of every tensor of a graph become."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.errors import InputError, ModelFileError
from nddr_deploy.graph.flat import check_flat, replace_nodes
from nddr_deploy.graph.inference import tensor_types
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

_PREFIX = "range of "


def with_ranges(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose outputs are, per float32 tensor that a node makes, one number: its largest absolute value.

    The output for tensor `x` is named "range of x"; the outputs that the model had are gone. A tensor that holds
    infinity or what is not a number gives what is not a number. Where a map is padded with infinity (which a
    max-pool never returns), the number is that of the map.

    Nothing large leaves the graph, and no tensor lives longer than in a plain pass: ONNX Runtime starts from the last
    node that nothing uses, so the first tensor's range is computed last in the file and first in a pass.

    Args:
        model: with one flat graph; left as it was.

    Raises:
        ModelFileError, UnsupportedError: a graph that is not flat or whose types cannot be inferred.
    """
    check_flat(model)
    types = tensor_types(model)
    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    graph = measured.graph
    infinite = {weight.name for weight in graph.initializer if _is_infinite(weight)}
    graph.initializer.append(numpy_helper.from_array(np.float32(0), f"{_PREFIX}nothing"))
    groups: list[list[onnx.NodeProto]] = []
    names: list[str] = []
    for node in graph.node:
        for name in node.output:
            if types.get(name) == TensorProto.FLOAT:
                padded = node.op_type == "Pad" and len(node.input) > 2 and node.input[2] in infinite
                groups.append(_measure(node.input[0] if padded else name, f"{_PREFIX}{name}"))
                names.append(f"{_PREFIX}{name}")
    replace_nodes(graph, [*graph.node, *(node for group in reversed(groups) for node in group)])
    del graph.output[:], graph.value_info[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in names)
    return measured


def scan_ranges(
    model: onnx.ModelProto,
    run: Callable[[bytes], Callable[[Image], Mapping[str, Array]]],
    batches: Iterable[Image],
) -> dict[str, float]:
    """The largest absolute value of every float32 tensor over some images, by tensor name; weights are included.

    Args:
        model: left as it was.
        run: loads a serialised model and returns what computes its outputs from images. `images` is its input.
        batches: uint8 (N, H, W, 3) each, of sizes that the model takes.

    Raises:
        InputError: no images, or values that are infinite or no numbers, with the node that makes them.
        ModelFileError, UnsupportedError: see `with_ranges`; or a weight that is not finite.
    """
    ranges = weight_ranges(model)
    infer = run(with_ranges(model).SerializeToString())
    found: dict[str, float] = {}
    for number, images in enumerate(batches):
        for output, value in infer(images).items():
            name = output.removeprefix(_PREFIX)
            largest = float(value)
            if not isfinite(largest):
                raise InputError(_not_finite(model, name, number))
            found[name] = max(found.get(name, 0.0), largest)
    if not found:
        raise InputError("No images were given to scan the ranges of the network's tensors on. Give one or more.")
    return {**ranges, **found}


def weight_ranges(model: onnx.ModelProto) -> dict[str, float]:
    """The largest absolute value of every float32 weight; infinity for one that pads with it.

    Raises:
        ModelFileError: a weight holds what is not a number.
    """
    ranges = {}
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        largest = float(np.abs(values).max()) if values.size else 0.0
        users = [node for node in model.graph.node if weight.name in node.input]
        if not isfinite(largest) and not (values.size == 1 and all(node.op_type in _BOUNDED_BY for node in users)):
            user = f"{users[0].op_type} node {users[0].name!r}" if users else "no node"
            raise ModelFileError(
                f"The weight {weight.name!r}, read by {user}, holds infinity or what is not a number. Train or export "
                "the network again."
            )
        ranges[weight.name] = largest
    return ranges


_BOUNDED_BY = ("Pad", "Clip", "Min", "Max", "Where")  # where a single infinity has a meaning


def _measure(source: str, result: str) -> list[onnx.NodeProto]:
    """max(|x|) + 0 * sum(|x|): a maximum may overlook what is not a number, a sum never does."""
    size, most, total, nothing = (f"{result}: {part}" for part in ("size", "most", "total", "nothing"))
    return [
        helper.make_node("Abs", [source], [size], name=size),
        helper.make_node("ReduceMax", [size], [most], name=most, keepdims=0),
        helper.make_node("ReduceSum", [size], [total], name=total, keepdims=0),
        helper.make_node("Mul", [total, f"{_PREFIX}nothing"], [nothing], name=nothing),
        helper.make_node("Add", [most, nothing], [result], name=result),
    ]


def _is_infinite(weight: onnx.TensorProto) -> bool:
    if weight.data_type != TensorProto.FLOAT or list(weight.dims) not in ([], [1]):
        return False
    return bool(np.isinf(numpy_helper.to_array(weight)).all())


def _not_finite(model: onnx.ModelProto, name: str, number: int) -> str:
    node = next(node for node in model.graph.node if name in node.output)
    return (
        f"{node.op_type} node {node.name!r} gives infinity or what is not a number in {name!r} on batch {number}. "
        "Check the checkpoint's weights and its pre-processing, then export again."
    )
