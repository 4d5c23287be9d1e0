"""Cutting what a task takes from a stream out of an NDDR layer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.graph.flat import check_flat, constants_as_weights, drop_unused, replace_nodes
from nddr_deploy.graph.fusion_layers import FusionLayer, Stream, check_direct, check_known, fusion_layers


def prune_coupling(model: onnx.ModelProto, blocks: Collection[tuple[str, str, str]]) -> onnx.ModelProto:
    """A copy in which tasks do without some streams at some NDDR layers: those columns of their convolutions are gone.

    A convolution then reads a Concat of the streams that are left, or the one stream itself; what nothing reads any
    more goes, too: a whole stream, where the last one to read it was cut. Outputs are those of a model with these
    columns set to zero, up to the order in which a runtime adds. Nodes and tensors that stay keep their names.

    Args:
        model: flat, not quantised; left as it was.
        blocks: (layer, task, stream), as in ("fusions.0", "normals", "depth"): what `task` takes from `stream`.

    Raises:
        ConfigError: there is no such layer, task or stream, or nothing would be left for a task.
        UnsupportedError: something is computed between a layer's Concat and its convolutions; a graph that is not flat.
        ModelFileError: the graph's shapes contradict each other.
    """
    check_flat(model)
    pruned = onnx.ModelProto()
    pruned.CopyFrom(constants_as_weights(model))
    found = fusion_layers(pruned)
    cut = set(blocks)
    _check(found, cut)
    surgery = _Surgery(pruned.graph)
    for layer in found:
        for task, node in layer.convolutions.items():
            kept = [stream for stream in layer.streams if (layer.name, task, stream.task) not in cut]
            if len(kept) < len(layer.streams):
                check_direct(layer)
                surgery.cut(layer, node, kept)
    replace_nodes(pruned.graph, surgery.nodes())
    drop_unused(pruned.graph)
    return pruned


def _check(found: Sequence[FusionLayer], cut: Collection[tuple[str, str, str]]) -> None:
    check_known(found, [layer for layer, _, _ in cut])
    for name, task, stream in sorted(cut):
        parts = [layer for layer in found if layer.name == name]  # several where each task has a Concat of its own
        tasks = {reader: layer for layer in parts for reader in layer.convolutions}
        if task not in tasks:
            raise unknown_choice(f"A task at {name}", task, tasks)
        streams = [part.task for part in tasks[task].streams]
        if stream not in streams:
            raise unknown_choice(f"A stream at {name}", stream, streams)
        if all((name, task, each) in cut for each in streams):
            raise ConfigError(
                f"Cutting {', '.join(streams)} at {name} leaves {task} nothing to read. Keep one of them, or choose a "
                "lower threshold."
            )


class _Surgery:
    """The convolutions that read less, and the smaller Concats that they read."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.by_name = {node.name or node.output[0]: node for node in graph.node}
        self.weights = {weight.name: weight for weight in graph.initializer}
        self.readers = [name for node in graph.node for name in node.input]
        self.joined: dict[tuple[str, ...], onnx.NodeProto] = {}  # tensors -> their Concat
        self.added: dict[str, list[onnx.NodeProto]] = {}  # by the name of the Concat that they stand beside

    def cut(self, layer: FusionLayer, convolution: str, kept: Sequence[Stream]) -> None:
        """Let a convolution read some streams only."""
        node = self.by_name[convolution]
        weight = numpy_helper.to_array(self.weights[node.input[1]])
        columns = np.concatenate([weight[:, stream.columns] for stream in kept], axis=1)
        name = node.input[1]
        if self.readers.count(name) > 1:  # other nodes read the whole of it
            name = f"{convolution}.weight"
            self.weights[name] = self.graph.initializer.add()
        self.weights[name].CopyFrom(numpy_helper.from_array(columns, name))
        node.input[:2] = [self._join(layer, kept), name]

    def _join(self, layer: FusionLayer, kept: Sequence[Stream]) -> str:
        tensors = tuple(stream.tensor for stream in kept)
        if len(tensors) == 1:
            return tensors[0]
        if tensors not in self.joined:
            name = f"{layer.concat}.{'.'.join(stream.task for stream in kept)}"
            self.joined[tensors] = helper.make_node("Concat", tensors, [name], name=name, axis=1)
            self.added.setdefault(layer.concat, []).append(self.joined[tensors])
        return str(self.joined[tensors].output[0])

    def nodes(self) -> Iterator[onnx.NodeProto]:
        """In an order that can be computed."""
        for node in self.graph.node:
            yield node
            yield from self.added.get(node.name or node.output[0], ())
