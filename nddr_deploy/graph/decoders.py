"""`Task.decode` as nodes of a graph, for every kind of task.

What TensorRT 8.6 to 11 take: operations of ONNX opset 17 to 20 in float32, UINT8 only where a result leaves, made from
float32. No node multiplies matrices, which a GPU may do in TF32. Nothing overflows, and nothing is divided by 0:
whoever scans the ranges of such a graph meets numbers only.

Shape letters: N batch; C channels; h, w raw; H, W image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto

from nddr_deploy import optional
from nddr_deploy.errors import UnsupportedError
from nddr_deploy.manifest import Manifest
from nddr_deploy.resize import Convention
from nddr_deploy.tasks.base import Task

INPUT = "images"
MAX_TAKES_AXES = 18  # the opset from which ReduceMax takes its axes as an input; ReduceSum has done so since 13
SMALLEST = float(np.finfo(np.float32).tiny)  # what is below is not stored with all bits, or not at all

Labels = Literal["argmax", "compare"]
Value: TypeAlias = Any  # a tensor of onnx-graphsurgeon
Extents: TypeAlias = Sequence["int | str | None"]  # the name of a dimension that is open, if it has one
Tensor: TypeAlias = "tuple[str, Extents]"  # name and shape


def decoder_graph(
    manifest: Manifest, images: Tensor, raw: Mapping[str, Tensor], opset: int, labels: Labels = "argmax"
) -> onnx.GraphProto:
    """The decoders alone, as a graph from raw outputs to results.

    Onnx-graphsurgeon is given no more than that: of a whole model it would copy every weight, and drop the metadata.

    Args:
        images: a float tensor (N, H, W, 3), whose size is that of the results.
        raw: task name -> its raw output.
        labels: as for `append_decoders`.

    Raises:
        UnsupportedError: a kind of task without a decoder.
        MissingPackageError: onnx-graphsurgeon is not installed.
    """
    gs = optional.load("onnx_graphsurgeon", extra="gpu")
    graph = gs.Graph(opset=opset, name="decoders")

    def given(tensor: Tensor) -> Value:
        graph.inputs.append(gs.Variable(tensor[0], dtype=np.float32, shape=tensor[1]))
        return graph.inputs[-1]

    sizes = _Sizes(_Nodes(gs, graph, INPUT), given(images))
    for name, tensor in raw.items():
        task = manifest.task(name)
        if task.kind not in DECODERS:
            raise UnsupportedError(
                f"{name}: tasks of kind {task.kind!r} cannot be decoded inside the graph; these can: "
                f"{', '.join(DECODERS)}. Export with --outputs raw."
            )
        nodes = _Nodes(gs, graph, name)
        result = DECODERS[task.kind](_Decoder(nodes, task, given(tensor), manifest.resize, sizes, labels))
        result.name, (result.dtype, result.shape) = name, _form(task, images[1])
        graph.outputs.append(result)
    return gs.export_onnx(graph).graph


def _form(task: Task, images: Extents) -> tuple[Any, Extents]:
    """Type and shape of the result."""
    batch, height, width, _ = images
    behind = {"normals": [3], "classification": [task.channels]}.get(task.kind, [])
    front = [batch, height, width] if task.head == "dense" else [batch]
    return np.uint8 if task.kind == "segmentation" else np.float32, [*front, *behind]


class _Nodes:
    """Nodes and constants whose names begin alike: `decode.depth/Resize`, `decode.depth/Mul_2`."""

    def __init__(self, gs: Any, graph: Any, what: str) -> None:
        self.gs, self.graph, self.what = gs, graph, what
        self._counts: Counter[str] = Counter()

    def add(self, operation: str, *inputs: Value, **attributes: Any) -> Value:
        """One more node; its output has its name. An input that is None is left out."""
        self._counts[operation] += 1
        count = self._counts[operation]
        name = f"decode.{self.what}/{operation}" + (f"_{count}" if count > 1 else "")
        given = [self.gs.Variable.empty() if value is None else value for value in inputs]
        outputs = self.graph.layer(given, [self.gs.Variable(name)], op=operation, name=name, attrs=attributes)
        return outputs[0]

    def constant(self, name: str, values: Any, kind: Any = np.float32) -> Value:
        return self.gs.Constant(f"decode.{self.what}/{name}", np.array(values, dtype=kind))


class _Sizes:
    """The sizes that maps are resized to: constants, but for what the images leave open."""

    def __init__(self, nodes: _Nodes, images: Value) -> None:
        self._nodes, self._images = nodes, images
        self.batch, *self.hw = images.shape[:3]

    def of(self, channels: int, nodes: _Nodes) -> Value:
        """(N, channels, H, W) as a tensor of four whole numbers; constants are those of `nodes`."""
        batch_is_open, size_is_open = not isinstance(self.batch, int), any(not isinstance(x, int) for x in self.hw)
        known = [*([] if batch_is_open else [self.batch]), channels, *([] if size_is_open else self.hw)]
        parts = [nodes.constant("size", known, np.int64)]
        if batch_is_open:
            parts.insert(0, self._open_batch)
        if size_is_open:
            parts.append(self._open_hw)
        return nodes.add("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]

    @cached_property
    def _open_batch(self) -> Value:
        return self._part(0, 1)

    @cached_property
    def _open_hw(self) -> Value:
        return self._part(1, 3)

    def _part(self, start: int, end: int) -> Value:
        bounds = (self._nodes.constant(f"from_{x}" if x == start else f"to_{x}", [x], np.int64) for x in (start, end))
        return self._nodes.add("Slice", self._shape, *bounds)

    @cached_property
    def _shape(self) -> Value:
        return self._nodes.add("Shape", self._images)


class _Decoder:
    """One task's raw output, and the nodes that decode it.

    Attributes:
        raw: (N, C, h, w) where dense, (N, C) where pooled.
    """

    def __init__(self, nodes: _Nodes, task: Any, raw: Value, resize: Convention, sizes: _Sizes, labels: Labels) -> None:
        self.nodes, self.task, self.raw, self._convention, self._sizes = nodes, task, raw, resize, sizes
        self.labels = labels
        self.add, self.constant = nodes.add, nodes.constant

    def resized(self, maps: Value) -> Value:
        """(N, C, h, w) -> (N, C, H, W); itself where it is known to have that size already."""
        if list(self.raw.shape[2:]) == self._sizes.hw and all(isinstance(extent, int) for extent in self._sizes.hw):
            return maps
        sizes = self._sizes.of(self.task.channels, self.nodes)
        return self.add(
            "Resize", maps, None, None, sizes, mode="linear", coordinate_transformation_mode=self._convention
        )

    def sum(self, values: Value, *, keepdims: int = 1) -> Value:
        """Over the channels."""
        return self.add("ReduceSum", values, self._channel_axis, keepdims=keepdims)

    def largest(self, values: Value) -> Value:
        """Over the channels."""
        if self.nodes.graph.opset < MAX_TAKES_AXES:
            return self.add("ReduceMax", values, axes=[1], keepdims=1)
        return self.add("ReduceMax", values, self._channel_axis, keepdims=1)

    def squeezed(self, maps: Value) -> Value:
        """(N, 1, H, W) -> (N, H, W)."""
        return self.add("Squeeze", maps, self._channel_axis)

    def per_channel(self, name: str, values: Sequence[float]) -> Value:
        """A constant (1, C, 1, 1)."""
        return self.constant(name, np.reshape(values, (1, -1, 1, 1)))

    @cached_property
    def _channel_axis(self) -> Value:
        return self.constant("channel_axis", [1], np.int64)


def _labels(at: _Decoder) -> Value:
    """uint8 (N, H, W); of equal scores the lowest class. Through float32: TensorRT makes uint8 from nothing else."""
    scores = at.resized(at.raw)
    if at.labels == "compare":
        return at.add("Cast", at.squeezed(_first_of_largest(at, scores)), to=int(TensorProto.UINT8))
    labels = at.add("ArgMax", scores, axis=1, keepdims=0, select_last_index=0)
    return at.add("Cast", at.add("Cast", labels, to=int(TensorProto.FLOAT)), to=int(TensorProto.UINT8))


def _first_of_largest(at: _Decoder, scores: Value) -> Value:
    """(N, 1, H, W): the lowest class whose score is the largest."""
    classes = at.per_channel("classes", range(at.task.channels))
    none = at.per_channel("no_class", [at.task.channels])
    largest = at.add("Where", at.add("Equal", scores, at.largest(scores)), classes, none)
    return at.add("Neg", at.largest(at.add("Neg", largest)))


def _normals(at: _Decoder) -> Value:
    """Unit vectors (N, H, W, 3); (0, 0, -1) where there is no direction. See `resample.colour_normals` for colours.

    What can be done on the small raw map is done there.
    """
    coloured = at.task.coding == "colour"
    components, signs = at.task.camera
    raw, turned = at.raw, signs != (1, 1, 1)
    if components != (0, 1, 2):
        raw = at.add("Gather", raw, at.constant("components", components, np.int64), axis=1)
    if turned and not coloured:
        raw = at.add("Mul", raw, at.per_channel("signs", signs))
    vectors = at.resized(raw)
    if coloured:
        vectors = at.add("Relu", vectors)
    # By the largest component first: the square of a float32 may overflow or vanish.
    largest = at.largest(vectors if coloured else at.add("Abs", vectors))
    without = at.add("Equal", largest, at.per_channel("zero", [0]))
    scaled = at.add("Div", vectors, at.add("Max", largest, at.per_channel("smallest", [SMALLEST])))
    toward_camera = at.per_channel("toward_camera", [0, 0, -1])
    instead = at.per_channel("grey", [1, 1, 1]) if coloured else toward_camera
    unit = _unit(at, at.add("Where", without, instead, scaled))
    if coloured:
        unit = _of_colour(at, unit)
        if turned:
            unit = at.add("Mul", unit, at.per_channel("signs", signs))
        unit = at.add("Where", without, toward_camera, unit)
    return at.add("Transpose", unit, perm=[0, 2, 3, 1])


def _of_colour(at: _Decoder, unit: Value) -> Value:
    """The normals of colours' directions."""
    total = at.sum(unit)
    beyond = at.add("Relu", at.add("Sub", at.add("Mul", total, total), at.per_channel("two", [2])))
    twice = at.add("Add", total, at.add("Sqrt", beyond))
    return _unit(at, at.add("Sub", at.add("Mul", unit, twice), at.per_channel("one", [1])))


def _unit(at: _Decoder, vectors: Value) -> Value:
    return at.add("Div", vectors, at.add("Sqrt", at.sum(at.add("Mul", vectors, vectors))))


def _metres(at: _Decoder) -> Value:
    """(N, H, W); negative values become 0."""
    return at.add("Relu", at.squeezed(at.resized(at.raw)))


def _chances(at: _Decoder) -> Value:
    """Probabilities (N, H, W) of logits."""
    return at.add("Sigmoid", at.squeezed(at.resized(at.raw)))


def _years(at: _Decoder) -> Value:
    """(N,): the expected value over classes 0, 1, 2, ..."""
    years = at.constant("years", np.arange(at.task.channels)[None])
    return at.sum(at.add("Mul", _probabilities(at), years), keepdims=0)


def _probabilities(at: _Decoder) -> Value:
    """(N, C) of logits."""
    return at.add("Softmax", at.raw, axis=1)


DECODERS: dict[str, Callable[[_Decoder], Value]] = {
    "segmentation": _labels,
    "normals": _normals,
    "depth": _metres,
    "binary": _chances,
    "age": _years,
    "classification": _probabilities,
}
