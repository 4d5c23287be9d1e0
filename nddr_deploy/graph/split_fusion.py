"""An NDDR layer's convolution over all streams as a sum of one convolution per stream."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from nddr_deploy.graph.flat import check_flat, constants_as_weights, drop_unused, replace_nodes
from nddr_deploy.graph.fusion_layers import Stream, check_direct, check_known, fusion_layers


def split_fusion(model: onnx.ModelProto, layers: Collection[str] | None = None) -> onnx.ModelProto:
    """A copy in which NDDR layers multiply each stream by itself, and add: in int8 each stream has a scale of its own.

    `fusions.0.layers.depth.conv/Conv` becomes one `fusions.0.layers.depth.conv.STREAM/Conv` per stream, the first with
    the bias, and `fusions.0.layers.depth.conv/Add`, ..., the last of which makes the tensor that the convolution made.
    The Concat goes if nothing else reads it. Outputs stay equal up to the order in which a runtime adds.

    Args:
        model: flat, not quantised; left as it was.
        layers: names as in "fusions.0"; None: all that `fusion_layers` finds.

    Raises:
        ConfigError: there is no such layer.
        UnsupportedError: something is computed between a layer's Concat and its convolutions; a graph that is not flat.
        ModelFileError: the graph's shapes contradict each other.
    """
    check_flat(model)
    split = onnx.ModelProto()
    split.CopyFrom(constants_as_weights(model))
    found = fusion_layers(split)
    check_known(found, layers or ())
    streams: dict[str, tuple[Stream, ...]] = {}
    for layer in found:
        if layers is None or layer.name in layers:
            check_direct(layer)
            streams.update(dict.fromkeys(layer.convolutions.values(), layer.streams))
    nodes: list[onnx.NodeProto] = []
    for node in split.graph.node:
        parts = streams.get(node.name or node.output[0])
        nodes += [node] if parts is None else _sum(split.graph, node, parts)
    replace_nodes(split.graph, nodes)
    drop_unused(split.graph)
    return split


def _sum(graph: onnx.GraphProto, node: onnx.NodeProto, streams: Sequence[Stream]) -> list[onnx.NodeProto]:
    """One convolution per stream and what adds them up; their weights go into the graph."""
    weight = numpy_helper.to_array(next(entry for entry in graph.initializer if entry.name == node.input[1]))
    base = (node.name or node.output[0]).removesuffix("/Conv")
    products, sums = [], []
    for place, stream in enumerate(streams):
        name = f"{base}.{stream.task}"
        columns = np.ascontiguousarray(weight[:, stream.columns])
        graph.initializer.append(numpy_helper.from_array(columns, f"{name}.weight"))
        inputs = [stream.tensor, f"{name}.weight", *(node.input[2:] if place == 0 else ())]
        products.append(helper.make_node("Conv", inputs, [f"{name}/Conv"], name=f"{name}/Conv"))
        products[-1].attribute.extend(node.attribute)
    total = products[0].output[0]
    for place, product in enumerate(products[1:], start=1):
        name = f"{base}/Add" if place == 1 else f"{base}/Add_{place}"
        result = node.output[0] if place == len(products) - 1 else name
        sums.append(helper.make_node("Add", [total, product.output[0]], [result], name=name))
        total = result
    return [*products, *sums]
