"""A freshly exported ONNX graph, made small, readable and reproducible. Nothing that is computed changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx


def tidy(model: onnx.ModelProto) -> None:
    """Clean up, in place: constants become weights, Identity goes, nodes get names, texts of the exporter go.

    A node is named after the layer whose weights it holds, `backbones.depth.stage1.0/Conv`; one without weights after
    what it follows, `backbones.depth.stage1.0/Relu`. A node's output has the node's name.

    Args:
        model: with one flat graph.
    """
    graph = model.graph
    _only_weights(graph)
    _constants_to_weights(graph)
    _drop_identities(graph)
    _name_nodes(graph)
    _drop_texts(model)


def _only_weights(graph: onnx.GraphProto) -> None:
    """A weight may also be declared as an input, which would let callers replace it."""
    weights = {weight.name for weight in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[: len(graph.input)]
    graph.input.extend(inputs)


def _constants_to_weights(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        values = [attribute.t for attribute in node.attribute if attribute.name == "value"]
        if node.op_type == "Constant" and values:
            graph.initializer.add().CopyFrom(values[0])
            graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    _replace_nodes(graph, kept)


def _drop_identities(graph: onnx.GraphProto) -> None:
    outputs = {value.name for value in graph.output}
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        if node.op_type == "Identity" and node.output[0] not in outputs:
            same[node.output[0]] = same.get(node.input[0], node.input[0])
        else:
            kept.append(node)
    _replace_nodes(graph, kept)
    _rename_values(graph, same)


def _name_nodes(graph: onnx.GraphProto) -> None:
    weights = {weight.name for weight in graph.initializer}
    fixed = weights | {value.name for value in (*graph.input, *graph.output)}
    bases: dict[str, str] = {}  # value -> the layer that it comes from
    counts: dict[str, int] = {}
    renamed: dict[str, str] = {}
    for node in graph.node:
        layers = [
            name.rpartition(".")[0] for name in node.input if name in weights and name.endswith((".weight", ".bias"))
        ]
        sources = [name for name in node.input if name and name not in weights]
        base = layers[0] if layers else bases.get(sources[0], sources[0]) if sources else "constant"
        name = f"{base}/{node.op_type}"
        counts[name] = counts.get(name, 0) + 1
        node.name = name if counts[name] == 1 else f"{name}_{counts[name]}"
        for place, output in enumerate(node.output):
            bases[output] = base
            if output not in fixed:
                renamed[output] = node.name if place == 0 else f"{node.name}:{place}"
    _rename_values(graph, renamed)
    unnamed = (weight for weight in graph.initializer if weight.name.startswith("/"))  # the exporter's own constants
    constants = {weight.name: f"constant_{number}" for number, weight in enumerate(unnamed)}
    _rename_values(graph, constants)
    for weight in graph.initializer:
        weight.name = constants.get(weight.name, weight.name)


def _rename_values(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]


def _replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _drop_texts(model: onnx.ModelProto) -> None:
    """What the exporter wrote about its own machine, and inferred shapes, which every reader infers again."""
    graph = model.graph
    del graph.value_info[:], model.metadata_props[:], model.functions[:]
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
        if part is not model and "metadata_props" in part.DESCRIPTOR.fields_by_name:
            part.ClearField("metadata_props")
