"""A network as a flat graph of layer calls (torch.fx), ready to be rewritten."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from nddr_deploy.errors import UnsupportedError
from nddr_deploy.network.resize import Resize

Network = TypeVar("Network", bound=nn.Module)
_SILENT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity)


class _Tracer(fx.Tracer):
    """Keeps layers whole: PyTorch's own modules and `Resize`, which becomes one ONNX node."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Resize) or super().is_leaf_module(m, module_qualified_name)


def trace(network: nn.Module, example: Sequence[Tensor]) -> fx.GraphModule:
    """A copy of `network` in evaluation mode, as a graph whose nodes know their shapes.

    What does nothing in evaluation (dropout, identity) and what no output needs is left out; what depends on
    weights alone is computed now and becomes a weight.

    Args:
        network: left as it was.
        example: inputs, for the shapes.

    Raises:
        UnsupportedError: the network's `forward` decides something by looking at values or shapes.
    """
    root = structural_copy(network).eval()
    for part in root.modules():
        if hasattr(part, "inplace"):
            part.inplace = cast("Any", False)  # a value must not change after it was compared or read
    tracer = _Tracer()
    try:
        graph = tracer.trace(root)
    except (fx.proxy.TraceError, TypeError) as error:
        raise UnsupportedError(
            f"{type(network).__name__} cannot be exported: its forward depends on values that are known only when it "
            f"runs ({str(error).splitlines()[0]}). Write it without such a branch."
        ) from error
    module = fx.GraphModule(root, graph, type(network).__name__)
    _drop_silent_layers(module)
    _calls_to_layers(module)
    _compute_constants(module)
    clean(module)
    with torch.no_grad():
        ShapeProp(module).propagate(*example)
    return module


def structural_copy(network: Network) -> Network:
    """Copies of all modules around the same weights, which nothing here changes in place."""
    weights = {id(weight): weight for weight in (*network.parameters(), *network.buffers())}
    return deepcopy(network, weights)


def fix_sizes(module: fx.GraphModule, dynamic: Collection[str]) -> None:
    """Turn every size that cannot change into a number, in place: else the exporter writes nodes that compute it.

    Args:
        dynamic: which of "batch" (dimension 0) and "size" (dimensions 2 and 3 of maps) stay open.
    """
    open_dimensions = {*((0,) if "batch" in dynamic else ()), *((2, 3) if "size" in dynamic else ())}
    for node in list(module.graph.nodes):
        if node.target is operator.getitem and _is_shape(node.args[0]) and isinstance(node.args[1], int):
            sizes = shape(node.args[0].args[0])
            if node.args[1] % len(sizes) not in open_dimensions:
                _replace_by_number(module, node, sizes[node.args[1]])
        elif node.op == "call_function" and not node.all_input_nodes and node.users:
            number = node.target(*node.args, **node.kwargs)  # arithmetic on numbers that were sizes
            if isinstance(number, int):
                _replace_by_number(module, node, number)
    clean(module)


def _is_shape(node: object) -> bool:
    return isinstance(node, fx.Node) and node.target is getattr and node.args[1] == "shape"


def _replace_by_number(module: fx.GraphModule, node: fx.Node, number: int) -> None:
    for user in list(node.users):
        user.args, user.kwargs = fx.map_arg(
            (user.args, user.kwargs), lambda source: number if source is node else source
        )
    module.graph.erase_node(node)


def clean(module: fx.GraphModule) -> None:
    """Drop calls that no output needs, and layers that are no longer called."""
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.graph.lint()
    module.recompile()


def shape(node: fx.Node) -> tuple[int, ...]:
    """Of the node's value on the example that the network was traced with."""
    return tuple(node.meta["tensor_meta"].shape)


def layer(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The layer that the node calls; None where the node is no call of a layer."""
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def call_sites(module: fx.GraphModule) -> Mapping[str, list[fx.Node]]:
    """Layer name -> every node that calls that layer. (A layer with several names is traced under one of them.)"""
    sites: dict[str, list[fx.Node]] = defaultdict(list)
    for node in module.graph.nodes:
        if node.op == "call_module":
            sites[str(node.target)].append(node)
    return sites


def replace_layer(module: fx.GraphModule, name: str, new: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, new)


def _drop_silent_layers(module: fx.GraphModule) -> None:
    for node in list(module.graph.nodes):
        silent_function = node.op == "call_function" and node.target is nn.functional.dropout
        if isinstance(layer(module, node), _SILENT) or silent_function:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def _calls_to_layers(module: fx.GraphModule) -> None:
    """`F.batch_norm(x, mean, variance, weight, bias, ...)`, as timm's layers call it, becomes a BatchNorm layer."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is torch._assert:
            module.graph.erase_node(node)  # of shapes, in timm's layers; it would be written as nodes
        if node.op != "call_function" or node.target is not nn.functional.batch_norm:
            continue
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        mean, variance, weight, bias = (given.get(name) for name in names[1:5])
        if given.get("training") or not isinstance(mean, fx.Node) or mean.op != "get_attr":
            continue  # left to the check of the finished file, which refuses it
        running = _attribute(module, str(mean.target))
        called = nn.BatchNorm2d(len(running), eps=cast("float", given.get("eps", 1e-5)), affine=weight is not None)
        called.running_mean = running
        called.running_var = _attribute(module, str(cast("fx.Node", variance).target))
        if weight is not None:
            called.weight = _attribute(module, str(cast("fx.Node", weight).target))
            called.bias = _attribute(module, str(cast("fx.Node", bias).target))
        name = f"{str(mean.target).rpartition('.')[0]}.batchnorm"
        module.add_submodule(name, called.eval())
        with module.graph.inserting_before(node):
            node.replace_all_uses_with(module.graph.call_module(name, (given["input"],)))
        module.graph.erase_node(node)


def _compute_constants(module: fx.GraphModule) -> None:
    """Evaluate what depends on weights alone, as in the softmax of a mixing matrix."""
    values: dict[fx.Node, Any] = {}
    with torch.no_grad():
        for node in module.graph.nodes:
            sources = node.all_input_nodes
            if node.op == "get_attr":
                values[node] = _attribute(module, str(node.target))
            elif (
                node.op in ("call_function", "call_method") and sources and all(source in values for source in sources)
            ):
                args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
                function = node.target if callable(node.target) else getattr(type(args[0]), str(node.target))
                values[node] = function(*args, **kwargs)
        for node, value in values.items():
            used_outside = any(user not in values for user in node.users)
            if node.op != "get_attr" and used_outside and isinstance(value, Tensor):
                name = f"{_origin(node)}_{node.name}"
                module.register_buffer(name, value.detach().clone())
                with module.graph.inserting_before(node):
                    constant = module.graph.get_attr(name)
                node.replace_all_uses_with(constant)


def _origin(node: fx.Node) -> str:
    """The name of the first weight that a constant was computed from, as a valid attribute name."""
    while node.op != "get_attr":
        node = node.all_input_nodes[0]
    return str(node.target).replace(".", "_")


def _attribute(module: nn.Module, path: str) -> Any:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value
