"""Figures about a graph's tensors, computed inside the graph: nothing large leaves it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.graph.flat import check_flat, drop_unused, replace_nodes
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

Run: TypeAlias = Callable[[bytes], Callable[[Image], Mapping[str, Array]]]
Figure = Literal["low", "high", "power"]
REDUCTIONS: Mapping[Figure, str] = {"low": "ReduceMin", "high": "ReduceMax", "power": "ReduceMean"}
AXES_ARE_INPUTS = 18  # the opset from which these reductions take their axes as an input
CHANNEL = 1


def with_statistics(
    model: onnx.ModelProto, tensors: Collection[str], figures: Collection[Figure], *, per_channel: int | None = None
) -> onnx.ModelProto:
    """A copy whose outputs are, per tensor `x` and figure, "low of x", "high of x" and "power of x" (mean square).

    The outputs that the model had are gone. Each is one number, or one per channel.

    Args:
        model: one flat graph with float32 tensors of those names; left as it was.
        tensors: that a node makes, or the graph takes.
        figures: which.
        per_channel: None, or how many dimensions the tensors have, channels being the second.

    Raises:
        ConfigError: a tensor that no node makes.
    """
    check_flat(model)
    made = {name for node in model.graph.node for name in node.output} | {value.name for value in model.graph.input}
    for name in tensors:
        if name not in made:
            raise ConfigError(f"The graph has no tensor {name!r} to measure. Take the names from the graph itself.")
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    graph = measured.graph
    axes = None if per_channel is None else [axis for axis in range(per_channel) if axis != CHANNEL]
    if axes is not None and opset >= AXES_ARE_INPUTS:
        graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), "statistics: axes"))
    groups: list[list[onnx.NodeProto]] = []
    del graph.output[:], graph.value_info[:]
    for name in dict.fromkeys(tensors):
        for figure in figures:
            groups.append(_reduce(name, figure, axes, opset))
            shape = [] if axes is None else [None]
            graph.output.append(helper.make_tensor_value_info(f"{figure} of {name}", TensorProto.FLOAT, shape))
    # ONNX Runtime starts from the last node that nothing uses: so no tensor lives longer than in a plain pass. A
    # head that is no longer an output would be such a node, too, and then every tensor would wait for it.
    replace_nodes(graph, [*graph.node, *(node for group in reversed(groups) for node in group)])
    drop_unused(graph)
    return measured


def _reduce(name: str, figure: Figure, axes: list[int] | None, opset: int) -> list[onnx.NodeProto]:
    nodes, source, result = [], name, f"{figure} of {name}"
    if figure == "power":
        source = f"square of {name}"
        nodes.append(helper.make_node("Mul", [name, name], [source], name=source))
    given: dict[str, int | list[int]] = {"keepdims": 0}
    inputs = [source]
    if axes is not None and opset >= AXES_ARE_INPUTS:
        inputs.append("statistics: axes")
    elif axes is not None:
        given["axes"] = axes
    nodes.append(helper.make_node(REDUCTIONS[figure], inputs, [result], name=result, **given))
    return nodes


def measure(
    model: onnx.ModelProto,
    tensors: Collection[str],
    figures: Collection[Figure],
    batches: Iterable[Image],
    run: Run,
    *,
    per_channel: int | None = None,
    progress: Callable[[], None] | None = None,
) -> dict[str, dict[Figure, Array]]:
    """Tensor -> figure -> its value over all images: the least, the largest, the mean of squares. Float64.

    Args:
        batches: uint8 (N, H, W, 3) each, that the model takes; of equal size, for a mean to be one.
        run: loads a serialised model and returns what computes its outputs from images.
        progress: called after each batch.

    Raises:
        InputError: no images, or a value that is no number, with the node that makes it.
    """
    infer = run(with_statistics(model, tensors, figures, per_channel=per_channel).SerializeToString())
    found: dict[str, dict[Figure, Array]] = {name: {} for name in tensors}
    count = 0
    for images in batches:
        outputs = infer(images)
        count += 1
        for name, figures_of in found.items():
            for figure in figures:
                value = np.asarray(outputs[f"{figure} of {name}"], np.float64)
                if not np.isfinite(value).all():
                    raise InputError(_not_finite(model, name, count))
                figures_of[figure] = value if count == 1 else _joined(figure, figures_of[figure], value)
        if progress is not None:
            progress()
    if not count:
        raise InputError("No images were given to measure the network's tensors on. Give one or more.")
    for figures_of in found.values():
        if "power" in figures_of:
            figures_of["power"] = figures_of["power"] / count
    return found


def _joined(figure: Figure, one: Array, other: Array) -> Array:
    joined: Array = {"low": np.minimum, "high": np.maximum, "power": np.add}[figure](one, other)
    return joined


def _not_finite(model: onnx.ModelProto, name: str, number: int) -> str:
    node = next((node for node in model.graph.node if name in node.output), None)
    maker = f"{node.op_type} node {node.name!r}" if node else "The input"
    return (
        f"{maker} gives infinity or what is not a number in {name!r} on picture {number}. Check the checkpoint's "
        "weights and its pre-processing, then export again."
    )
