"""Layers that the exporter would turn into many nodes, or refuse, in a form that it writes as one or two."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from nddr_deploy.errors import UnsupportedError
from nddr_deploy.export.trace import clean, fix_sizes, layer, shape, structural_copy
from nddr_deploy.network.resize import Resize
from nddr_deploy.resize import Convention


def lower(network: fx.GraphModule, dynamic: Collection[str]) -> fx.GraphModule:
    """An equal network for the exporter.

    Args:
        network: traced; left as it was.
        dynamic: which of "batch" and "size" stay open.

    Raises:
        UnsupportedError: an average over a fixed grid of cells in a network whose image size stays open.
    """
    lowered = structural_copy(network)
    fix_sizes(lowered, dynamic)
    for node in list(lowered.graph.nodes):
        called = layer(lowered, node)
        if isinstance(called, Resize):
            _lower_resize(lowered, node, called, dynamic)
        elif isinstance(called, nn.AdaptiveAvgPool2d) and shape(node)[2:] != (1, 1):
            _lower_average(lowered, node, dynamic)
        elif node.target is F.max_pool2d:
            _lower_padded_pool(lowered, node)
    clean(lowered)
    return lowered


def _lower_resize(network: fx.GraphModule, node: fx.Node, resize: Resize, dynamic: Collection[str]) -> None:
    """One Resize node, or none where it changes no size."""
    x, reference = node.args
    batch, channels, *source_hw = shape(_node(x))
    size_hw: tuple[int, ...] | None = None
    if isinstance(reference, tuple):
        size_hw = cast("tuple[int, int]", reference)
    elif "size" not in dynamic:
        size_hw = shape(_node(reference))[2:]
    if "size" not in dynamic and size_hw == tuple(source_hw):
        node.replace_all_uses_with(_node(x))
        return
    front = None if "batch" in dynamic else (batch, channels)
    reference = reference if size_hw is None else x
    _call(network, node, ResizeNode(resize.convention, front, size_hw), (x, reference))


def _lower_average(network: fx.GraphModule, node: fx.Node, dynamic: Collection[str]) -> None:
    """The exporter writes averages over equal cells only; over others they are two products with constants."""
    source, target = shape(node.all_input_nodes[0])[2:], shape(node)[2:]
    if "size" in dynamic:
        raise UnsupportedError(
            f"{node.target} averages over {target[0]}x{target[1]} cells, whose size ONNX cannot compute from an open "
            "image size. Export without --dynamic size, one file per size."
        )
    if any(size % cells for size, cells in zip(source, target, strict=True)):
        _call(network, node, CellAverages(source, target), node.args)


def _lower_padded_pool(network: fx.GraphModule, node: fx.Node) -> None:
    """A 3x3 max-pool of stride 2 over a map that was padded -> one MaxPool, whose own padding is never the maximum.

    That is the same where the map was padded with -inf (TensorFlow's SAME), or with zeros behind a ReLU; zeros beside
    values that may be negative stay a node. A padding by (0, 1) is rounding up. Only where the amounts are numbers:
    those of SAME follow the image size, which may be open.
    """
    padded = node.args[0]
    settings = {"stride": 2, "padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
    plain = node.args[1:] == (3,) and dict(node.kwargs) == settings
    if not (plain and isinstance(padded, fx.Node) and padded.target is F.pad):
        return
    x, amounts = _node(padded.args[0]), padded.args[1]
    value = padded.kwargs.get("value")
    never_the_maximum = value == float("-inf") or (value is None and isinstance(layer(network, x), nn.ReLU))
    if never_the_maximum and amounts in [(left, 1, top, 1) for left in (0, 1) for top in (0, 1)]:
        left, _, top, _ = cast("tuple[int, int, int, int]", amounts)
        node.args = (x, 3)
        node.kwargs = {**settings, "padding": (top, left), "ceil_mode": True}


class ResizeNode(nn.Module):
    """`Resize` as one ONNX node.

    Args:
        front: the batch and channels of x where they are fixed, else None.
        size_hw: the size to resize to where it is fixed; None takes that of the second argument.
    """

    def __init__(self, convention: Convention, front: tuple[int, int] | None, size_hw: tuple[int, ...] | None) -> None:
        super().__init__()
        self.convention, self.front, self.size_hw = convention, front, size_hw

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        result: Tensor = _ResizeFunction.apply(  # type: ignore[no-untyped-call]
            x, like, self.convention, self.front, self.size_hw
        )
        return result


class _ResizeFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, like: Tensor, convention: Convention, front: Any, size_hw: Any) -> Tensor:
        result: Tensor = Resize(convention)(x, size_hw or like)
        return result

    @staticmethod
    def symbolic(g: Any, x: Any, like: Any, convention: Convention, front: Any, size_hw: Any) -> Any:
        def constant(*values: int) -> Any:
            return g.op("Constant", value_t=torch.tensor(values, dtype=torch.int64))

        def shape_of(value: Any, start: int, end: int) -> Any:
            return g.op("Slice", g.op("Shape", value), constant(start), constant(end))

        if front and size_hw:
            sizes = constant(*front, *size_hw)
        else:
            first = constant(*front) if front else shape_of(x, 0, 2)
            sizes = g.op("Concat", first, constant(*size_hw) if size_hw else shape_of(like, 2, 4), axis_i=0)
        absent = g.op("prim::Constant")
        absent.setType(torch._C.OptionalType.ofTensor())
        return g.op("Resize", x, absent, absent, sizes, mode_s="linear", coordinate_transformation_mode_s=convention)


class CellAverages(nn.Module):
    """`AdaptiveAvgPool2d` for one size: the means of overlapping cells, rows first, then columns.

    Shapes:
        (N, C, h, w) -> (N, C, cells of h, cells of w).
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, source_hw: tuple[int, ...], cells_hw: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("rows", _cell_weights(source_hw[0], cells_hw[0]))
        self.register_buffer("columns", _cell_weights(source_hw[1], cells_hw[1]).T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        return self.rows @ (x @ self.columns)


def _cell_weights(size: int, cells: int) -> Tensor:
    """(cells, size): cell i averages floor(i * size / cells) .. ceil((i + 1) * size / cells) - 1."""
    weights = torch.zeros(cells, size)
    for cell in range(cells):
        start, end = cell * size // cells, -(-(cell + 1) * size // cells)
        weights[cell, start:end] = 1 / (end - start)
    return weights


def _call(network: fx.GraphModule, node: fx.Node, new: nn.Module, arguments: Any) -> None:
    """Let the node call another layer, under a name that tells where it came from."""
    name = f"{node.target}_{node.name}".replace(".", "_")
    network.add_module(name, new)
    node.target, node.args, node.kwargs = name, arguments, {}


def _node(argument: object) -> fx.Node:
    if not isinstance(argument, fx.Node):
        raise TypeError(f"expected a value of the graph, got {argument!r}")
    return argument
