"""A graph that returns raw outputs, made to return full-size results in the tasks' units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto

from nddr_deploy.errors import ConfigError, ModelFileError, UnsupportedError
from nddr_deploy.graph.decoders import INPUT, Extents, Labels, decoder_graph
from nddr_deploy.graph.flat import check_flat
from nddr_deploy.graph.metadata import manifest_of
from nddr_deploy.manifest import METADATA_KEY, Manifest

LEAST_OPSET = 17


def append_decoders(model: onnx.ModelProto, *, labels: Labels = "argmax") -> onnx.ModelProto:
    """A copy of a model with raw outputs that returns decoded results, under the same names and in the same order.

    Raw maps are resized in the manifest's convention to the size of `images`; where that, or the batch, is open, it
    is computed from `images`. What each kind of task makes of them is said in `Task.decode`. The manifest in the
    metadata then says so; everything else of the model stays as it is. The new nodes are called
    `decode.<task>/<operation>`, and a raw output now has the name of the node that makes it.

    Args:
        model: written by nddr-export, or made from such a one: `images` (N, H, W, 3) -> per task of its manifest raw
            float32 (N, C, h, w) where dense, (N, C) where pooled. Left as it was.
        labels: how the best class is found, with the same result: "argmax", or "compare", by the largest score and
            comparisons with it, for runtimes whose argmax sorts (TensorRT's is its TopK).

    Raises:
        ConfigError: its outputs are decoded already.
        ModelFileError: no manifest, or inputs and outputs that are not those that the manifest describes.
        UnsupportedError: a kind of task that has no decoder here, a nested graph, or an older opset.
        MissingPackageError: onnx-graphsurgeon is not installed.
    """
    manifest = manifest_of(model, source="The model")
    if manifest.outputs == "decoded":
        raise ConfigError("This model's outputs are decoded already. Use it as it is, or export it with --outputs raw.")
    check_flat(model)
    opset = _opset(model)
    images = _images(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    raw = _raw_outputs(model, manifest, makers)
    names = _names_of_raw(model, makers, list(raw))
    decoders = decoder_graph(
        manifest, (_image_tensor(model), images), {task: (names[task], raw[task]) for task in raw}, opset, labels
    )
    return _joined(model, decoders, names, manifest.model_copy(update={"outputs": "decoded"}))


def _opset(model: onnx.ModelProto) -> int:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < LEAST_OPSET:
        raise UnsupportedError(
            f"This model has opset {opset}; decoders are written for {LEAST_OPSET} and later. Export it again."
        )
    return int(opset)


def _images(model: onnx.ModelProto) -> Extents:
    """(N, H, W, 3) of the input."""
    for value in model.graph.input:
        extents = _extents(value)
        if value.name == INPUT and len(extents) == 4:
            return extents
    found = ", ".join(value.name for value in model.graph.input)
    raise ModelFileError(
        f"Expected a graph whose input is `{INPUT}` (N, H, W, 3); this one takes {found or 'nothing'}. Use a file "
        "written by nddr-export."
    )


def _image_tensor(model: onnx.ModelProto) -> str:
    """The images behind their cast to float: TensorRT lets nothing else read UINT8, not even a Shape."""
    casts = (node.output[0] for node in model.graph.node if node.op_type == "Cast" and INPUT in node.input)
    return next(casts, INPUT)


def _extents(value: onnx.ValueInfoProto) -> Extents:
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in value.type.tensor_type.shape.dim
    ]


def _raw_outputs(
    model: onnx.ModelProto, manifest: Manifest, makers: Mapping[str, onnx.NodeProto]
) -> dict[str, Extents]:
    """Task name -> its raw output's shape, in the order of the graph."""
    outputs = {value.name: value for value in model.graph.output}
    tasks = {task.name: task for task in manifest.tasks}
    if outputs.keys() != tasks.keys():
        raise ModelFileError(
            f"The graph's outputs are {', '.join(outputs)}; its manifest describes {', '.join(tasks)}. Export it again."
        )
    raw = {}
    for name, value in outputs.items():
        task, extents, kind = tasks[name], _extents(value), value.type.tensor_type.elem_type
        if kind != TensorProto.FLOAT:
            raise ModelFileError(
                f"{name}: the raw output is {TensorProto.DataType.Name(kind).lower()}; decoders are appended to "
                "float32 alone. Append them before the precision is changed."
            )
        dense = task.head == "dense"
        fits = len(extents) == (4 if dense else 2) and extents[1] in (task.channels, None)
        if not fits or name not in makers:
            raise ModelFileError(
                f"{name}: expected a raw output (N, {task.channels}{', h, w' if dense else ''}); found "
                f"({', '.join(map(str, extents))}). Export the model again."
            )
        raw[name] = extents
    return raw


def _names_of_raw(model: onnx.ModelProto, makers: Mapping[str, onnx.NodeProto], tasks: Sequence[str]) -> dict[str, str]:
    """Task name, which is the result's from now on -> another one for its raw output: the name of its node."""
    taken = {*makers, *(weight.name for weight in model.graph.initializer)}
    names = {}
    for task in tasks:
        name = makers[task].name
        names[task] = name if name and name not in taken else f"{task}/raw"
        taken.add(names[task])
    return names


def _joined(
    model: onnx.ModelProto, decoders: onnx.GraphProto, names: Mapping[str, str], manifest: Manifest
) -> onnx.ModelProto:
    """The model with the decoders behind it."""
    joined = onnx.ModelProto()
    joined.CopyFrom(model)
    graph = joined.graph
    for node in graph.node:
        for values in (node.input, node.output):
            if not names.keys().isdisjoint(values):
                values[:] = [names.get(value, value) for value in values]
    graph.node.extend(decoders.node)
    graph.initializer.extend(decoders.initializer)
    for value, decoded in zip(graph.output, decoders.output, strict=True):
        value.CopyFrom(decoded)
    for entry in joined.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = manifest.to_json()
    return joined
