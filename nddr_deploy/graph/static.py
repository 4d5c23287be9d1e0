"""A graph that leaves its batch or image size open, with the extents filled in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from nddr_deploy.errors import ConfigError, ModelFileError
from nddr_deploy.graph.flat import check_flat, drop_unused, replace_nodes
from nddr_deploy.graph.inference import LARGE, infer, skeleton, tensor_shapes
from nddr_deploy.graph.metadata import manifest_of, write_manifest
from nddr_deploy.manifest import METADATA_KEY

INPUT = "images"
_FOLDED = {  # what exporters compute sizes with; it has one result for one input
    *(
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Equal",
        "Expand",
        "Floor",
        "Gather",
        "Greater",
    ),
    *("GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Range"),
    *("ReduceProd", "Reshape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"),
}


def fix_input(
    model: onnx.ModelProto, *, batch: int | None = None, size_hw: tuple[int, int] | None = None
) -> onnx.ModelProto:
    """A copy whose `images` has these extents in place of open ones, and shapes that follow from them.

    What the graph computed from the open extents (sizes to resize to, amounts of padding) becomes a constant; inferred
    shapes and the outputs' declared ones are made anew; the manifest in the metadata, if there is one, follows. No
    value of any output changes.

    Args:
        model: takes `images` (N, H, W, 3); left as it was.
        batch: N; None leaves it as it is.
        size_hw: H and W; None leaves them as they are.

    Raises:
        ConfigError: an extent below 1, or another one than the model has fixed already.
        ModelFileError: there is no such input, or the extents do not fit the graph.
        UnsupportedError: a graph with branches or loops.
    """
    check_flat(model)
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    filled = _fill_in(fixed, batch, size_hw)
    graph = fixed.graph
    del graph.value_info[:]
    declared = [_names(value) for value in graph.output]
    for value in graph.output:
        for dim in value.type.tensor_type.shape.dim:
            dim.Clear()  # declared for another size, it may contradict what is inferred
    inferred = _fold_sizes(graph, skeleton(fixed))
    for value, found, names in zip(graph.output, inferred.output, declared, strict=True):
        value.CopyFrom(found)
        _name_open_dimensions(value, names, filled)
    _follow_in_manifest(fixed, batch, size_hw)
    return fixed


def _fill_in(model: onnx.ModelProto, batch: int | None, size_hw: tuple[int, int] | None) -> dict[str, int]:
    """Set the input's extents, in place; the names that open ones had, with what they are now."""
    images = next((value for value in model.graph.input if value.name == INPUT), None)
    if images is None or len(images.type.tensor_type.shape.dim) != 4:
        found = ", ".join(value.name for value in model.graph.input)
        raise ModelFileError(
            f"Expected a graph whose input is `{INPUT}` (N, H, W, 3); this one takes {found or 'nothing'}. Use a file "
            "written by nddr-export."
        )
    height, width = size_hw or (None, None)
    filled = {}
    dims = images.type.tensor_type.shape.dim
    for what, dim, extent in zip(("batch", "height", "width"), dims, (batch, height, width), strict=False):
        if extent is None:
            continue
        if extent < 1:
            raise ConfigError(f"{what}: {extent} is no extent of `{INPUT}`; give 1 or more.")
        if dim.HasField("dim_value") and dim.dim_value != extent:
            raise ConfigError(
                f"{what}: {extent} was asked for, but this model was exported with {dim.dim_value}. Ask for "
                f"{dim.dim_value}, or export again with --dynamic {'batch' if what == 'batch' else 'size'}."
            )
        if dim.dim_param:
            filled[dim.dim_param] = extent
        dim.dim_value = extent
    return filled


def _names(value: onnx.ValueInfoProto) -> list[str]:
    return [dim.dim_param for dim in value.type.tensor_type.shape.dim]


def _name_open_dimensions(value: onnx.ValueInfoProto, names: Iterable[str], filled: Mapping[str, int]) -> None:
    """What inference left open has the name it was declared with, or the extent that this name stands for now."""
    for dim, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
        if dim.HasField("dim_value"):
            continue
        dim.Clear()
        if name in filled:
            dim.dim_value = filled[name]
        elif name:
            dim.dim_param = name


def _fold_sizes(graph: onnx.GraphProto, light: onnx.ModelProto) -> onnx.GraphProto:
    """Turn what follows from known shapes alone into weights of `graph`, in place; the graph with inferred shapes."""
    constants = {weight.name: numpy_helper.to_array(weight) for weight in light.graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    folded: dict[str, Any] = {}
    inferred = infer(light)
    while True:
        known = tensor_shapes(inferred)
        shapes = {
            node.output[0]: _slice_of(node, known[node.input[0]])
            for node in light.graph.node
            if node.op_type == "Shape" and node.input[0] in known
        }
        new: dict[str, Any] = {}
        for node in light.graph.node:
            if (
                folded.keys().isdisjoint(node.input)
                and new.keys().isdisjoint(node.input)
                and shapes.keys().isdisjoint([*node.input, *node.output])
            ):
                continue  # it depends on weights alone; that is left as it is
            value = _follows(node, shapes, constants, light.opset_import)
            if value is not None and value.size <= LARGE:
                constants[node.output[0]] = new[node.output[0]] = value
        if not new:
            break
        folded.update(new)
        _replace(light.graph, new)
        inferred = infer(light)  # an amount of padding that is known now makes further shapes known
    _replace(graph, folded)
    if folded:
        drop_unused(graph)
    return inferred


def _slice_of(node: onnx.NodeProto, dims: tuple[int | None, ...]) -> Any:
    """What a Shape node gives for a tensor of these dimensions; -1 for an open one."""
    ends = {attribute.name: attribute.i for attribute in node.attribute}
    known = [-1 if extent is None else extent for extent in dims[ends.get("start", 0) : ends.get("end")]]
    return np.array(known, dtype=np.int64)


def _follows(
    node: onnx.NodeProto, shapes: Mapping[str, Any], constants: Mapping[str, Any], opsets: Sequence[Any]
) -> Any:
    """What the node gives, if that follows from known shapes; else None.

    Args:
        shapes: the output of every Shape node, -1 where a dimension is open.
        constants: everything else that is known.
    """
    if node.op_type == "Shape":
        known = shapes.get(node.output[0])
    elif node.op_type in _FOLDED and node.input and all(name in constants or name in shapes for name in node.input):
        if node.op_type not in ("Gather", "Slice") and not constants.keys() >= set(node.input):
            return None  # only these two can leave out what is open
        known = _evaluate(node, {name: constants.get(name, shapes.get(name)) for name in node.input}, opsets)
        if node.input[0] not in shapes:
            return known
    else:
        return None
    return known if known is not None and (known >= 0).all() else None


def _evaluate(node: onnx.NodeProto, values: Mapping[str, Any], opsets: Sequence[Any]) -> Any:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in values.items()
    ]
    alone = helper.make_graph([node], "alone", inputs, [onnx.ValueInfoProto(name=node.output[0])])
    evaluator = ReferenceEvaluator(helper.make_model(alone, opset_imports=opsets))
    return np.asarray(evaluator.run(None, dict(values))[0])


def _replace(graph: onnx.GraphProto, values: Mapping[str, Any]) -> None:
    """Weights in place of the nodes that give them."""
    replace_nodes(graph, [node for node in graph.node if node.output[0] not in values])
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())


def _follow_in_manifest(model: onnx.ModelProto, batch: int | None, size_hw: tuple[int, int] | None) -> None:
    if all(entry.key != METADATA_KEY for entry in model.metadata_props):
        return
    manifest = manifest_of(model, source="the model")
    closed = {what for what, extent in (("batch", batch), ("size", size_hw)) if extent is not None}
    changes = {
        "dynamic": tuple(what for what in manifest.dynamic if what not in closed),
        "batch": manifest.batch if batch is None else batch,
        "size_hw": manifest.size_hw if size_hw is None else size_hw,
    }
    write_manifest(model, manifest.model_copy(update=changes))
