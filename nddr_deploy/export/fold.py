"""BatchNorm, in evaluation mode, is `scale * x + shift` per channel: fold it into a neighbouring linear layer.

Three rules, tried in this order for every BatchNorm layer:

1. *before*: into the convolutions (or fully connected layers) whose output it reads. Exact when nothing else reads
   that output.
2. *after*: into the convolutions that read its output: the scale into the weight, the shift into the bias. Exact only
   without zero padding: the padding zeros come after the BatchNorm, so the shift must not reach them. Resizing,
   averaging and concatenating keep `scale * x + shift` what it is, so convolutions behind them count, too.
3. Otherwise it becomes one multiply-add, and the report says why.

All arithmetic is in float64; weights are stored as float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nddr_deploy.errors import UnsupportedError
from nddr_deploy.export.trace import call_sites, clean, layer, replace_layer, shape, trace
from nddr_deploy.network.resize import Resize

Action = Literal["into the layer before", "into the layer after", "kept as multiply-add"]
Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
Linear: TypeAlias = Convolution | nn.Linear
_LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True)
class Folded:
    """What became of one BatchNorm layer.

    Attributes:
        layer: its name in the network.
        action: where it went.
        into: the layers that took it; empty for a multiply-add.
        reason: why it could not be folded; empty where it was.
        watched: pairs of graph nodes, one of the traced and one of the folded network, whose values must be equal.
    """

    layer: str
    action: Action
    into: tuple[str, ...] = ()
    reason: str = ""
    watched: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.layer}: {self.action}" + (f" ({self.reason})" if self.reason else f" ({', '.join(self.into)})")


class ScaleShift(nn.Module):
    """`weight * x + bias` per channel: a Mul and an Add in ONNX."""

    def __init__(self, weight: Tensor, bias: Tensor, dimensions: int) -> None:
        super().__init__()
        aligned = (-1, *[1] * (dimensions - 2))  # channels are dimension 1
        self.weight = nn.Parameter(weight.reshape(aligned).float(), requires_grad=False)
        self.bias = nn.Parameter(bias.reshape(aligned).float(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


def fold_batchnorm(network: nn.Module, example: Sequence[Tensor]) -> tuple[fx.GraphModule, tuple[Folded, ...]]:
    """An equal network without BatchNorm.

    Args:
        network: left as it was; its evaluation mode is what counts.
        example: inputs of the sizes that matter, for shapes.

    Returns:
        The folded network, and what became of each BatchNorm layer, in the order of the network.

    Raises:
        UnsupportedError: the network cannot be traced, or a BatchNorm has no running statistics.
    """
    folded = trace(network, example)
    steps = [
        _fold(folded, name, sites)
        for name, sites in call_sites(folded).items()
        if isinstance(layer(folded, sites[0]), _BatchNorm)
    ]
    clean(folded)
    became = {new: old for step in steps if step.action == "into the layer before" for old, new in step.watched}
    report = (
        replace(step, watched=tuple((became.get(new, old), new) for old, new in step.watched)) for step in steps
    )  # a convolution that took one BatchNorm from behind may take another from the front
    return folded, tuple(report)


def _fold(module: fx.GraphModule, name: str, sites: list[fx.Node]) -> Folded:
    scale, shift = _affine(module.get_submodule(name), name)
    before = _foldable_before(module, sites)
    if not isinstance(before, str):
        for target in before:
            _replace_linear(module, target, partial(fold_into_before, scale=scale, shift=shift))
        watched = tuple((site.name, site.all_input_nodes[0].name) for site in sites)
        _erase(module, sites)
        return Folded(name, "into the layer before", tuple(before), watched=watched)

    after = _foldable_after(module, sites)
    if not isinstance(after, str):
        for target, start in after.items():
            _replace_linear(module, target, partial(fold_into_after, scale=scale, shift=shift, start=start))
        called = call_sites(module)
        watched = tuple((site.name, site.name) for target in after for site in called[target])
        _erase(module, sites)
        return Folded(name, "into the layer after", tuple(after), watched=watched)

    replace_layer(module, name, ScaleShift(scale, shift, len(shape(sites[0]))))
    watched = tuple((site.name, site.name) for site in sites)
    return Folded(name, "kept as multiply-add", reason=f"{before}, and {after}", watched=watched)


def fold_into_before(old: Linear, scale: Tensor, shift: Tensor) -> Linear:
    """`scale * old(x) + shift` as one layer. scale, shift: (outputs,) float64."""
    per_output = scale.reshape(-1, *[1] * (old.weight.dim() - 1))
    bias = torch.zeros_like(shift) if old.bias is None else old.bias.double()
    return _with_weights(old, old.weight.double() * per_output, bias * scale + shift)


def fold_into_after(old: Linear, scale: Tensor, shift: Tensor, start: int = 0) -> Linear:
    """`old(scale * x + shift)` as one layer that does not pad; scale and shift belong to the inputs from `start` on."""
    groups = 1 if isinstance(old, nn.Linear) else old.groups
    weight = old.weight.double()  # (outputs, inputs / groups, ...)
    inputs = weight.shape[1] * groups
    full_scale, full_shift = torch.ones(inputs, dtype=torch.float64), torch.zeros(inputs, dtype=torch.float64)
    full_scale[start : start + len(scale)], full_shift[start : start + len(scale)] = scale, shift

    def per_weight(values: Tensor) -> Tensor:
        """(inputs,) -> broadcastable to weight: each output sees the inputs of its own group."""
        seen = values.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, dim=0)
        return seen.reshape(*seen.shape, *[1] * (weight.dim() - 2))

    bias = torch.zeros(weight.shape[0], dtype=torch.float64) if old.bias is None else old.bias.double()
    bias = bias + (weight * per_weight(full_shift)).flatten(1).sum(1)
    return _with_weights(old, weight * per_weight(full_scale), bias)


def _affine(module: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    assert isinstance(module, _BatchNorm)  # noqa: S101 - for the type checker
    if module.running_mean is None or module.running_var is None:
        raise UnsupportedError(
            f"{name} is a BatchNorm without running statistics, so its result depends on the batch. "
            "Train it with track_running_stats=True."
        )
    scale = (module.running_var.double() + module.eps).rsqrt()
    if module.weight is not None:
        scale = scale * module.weight.double()
    shift = -module.running_mean.double() * scale
    if module.bias is not None:
        shift = shift + module.bias.double()
    return scale, shift


def _foldable_before(module: fx.GraphModule, sites: list[fx.Node]) -> list[str] | str:
    """The layers that every call reads, or why they cannot take the BatchNorm."""
    called = call_sites(module)
    targets: dict[str, None] = {}
    for site in sites:
        source = site.all_input_nodes[0]
        before = layer(module, source)
        if not isinstance(before, _LINEAR):
            return f"it comes after {_describe(module, source)}"
        if isinstance(before, nn.Linear) and len(shape(source)) != 2:
            return f"it normalises another dimension than {source.target} makes"
        targets[str(source.target)] = None
    for target in targets:
        for source in called[target]:
            others = [user for user in source.users if user not in sites and not _reads_only_size(module, user, source)]
            if others:
                return f"{target} is also read by {_describe(module, others[0])}"
    return list(targets)


def _foldable_after(module: fx.GraphModule, sites: list[fx.Node]) -> dict[str, int] | str:
    """The layers that read the BatchNorm -> their first input channel from it; or why they cannot take it."""
    called = call_sites(module)
    starts: dict[str, int] = {}
    reached: list[fx.Node] = []
    for site in sites:
        for reader, start in _readers(module, site, 0):
            after = layer(module, reader)
            if not isinstance(after, _LINEAR):
                return f"goes into {_describe(module, reader)}"
            name = str(reader.target)
            if isinstance(after, nn.Linear):
                if len(shape(reader.all_input_nodes[0])) != 2:
                    return f"{name} reads another dimension than the one that is normalised"
            elif after.padding_mode == "zeros" and _pads(after):
                return f"the next convolution {name} pads with zeros, which the shift must not reach"
            if starts.setdefault(name, start) != start or reader in reached:
                return f"{name} reads it in several places"
            reached.append(reader)
    for name in starts:
        if any(node not in reached for node in called[name]):
            return f"{name} is also used on other features"
    return starts or "nothing reads it"


def _readers(module: fx.GraphModule, node: fx.Node, start: int) -> Iterator[tuple[fx.Node, int]]:
    """What reads the node's value, seen through layers that keep `scale * x + shift` per channel as it is."""
    for user in node.users:
        if _reads_only_size(module, user, node):
            continue
        if _keeps_affine(module, user):
            yield from _readers(module, user, start)
        elif user.op == "call_function" and user.target is torch.cat and _dimension(user) == 1:
            parts = cast("Sequence[fx.Node]", user.args[0] if user.args else user.kwargs["tensors"])
            for place, part in enumerate(parts):
                if part is node:
                    offset = sum(shape(earlier)[1] for earlier in parts[:place])
                    yield from _readers(module, user, start + offset)
        else:
            yield user, start


def _reads_only_size(module: fx.GraphModule, user: fx.Node, node: fx.Node) -> bool:
    if isinstance(layer(module, user), Resize):
        return user.args[0] is not node  # the second argument is the map whose size is wanted
    return user.args[1:] == ("shape",) if user.target is getattr else user.op == "call_method" and user.target == "size"


def _keeps_affine(module: fx.GraphModule, node: fx.Node) -> bool:
    """Averages whose weights sum to one at every place, and reshaping of single pixels."""
    called = layer(module, node)
    if isinstance(called, Resize | nn.AdaptiveAvgPool2d) or node.target is nn.functional.adaptive_avg_pool2d:
        return True
    if isinstance(called, nn.AvgPool2d):
        padded = called.padding not in (0, (0, 0)) and called.count_include_pad
        return not padded and called.divisor_override is None
    flattens = isinstance(called, nn.Flatten) or (node.op == "call_function" and node.target is torch.flatten)
    if flattens or (node.op == "call_method" and node.target == "flatten"):
        source = shape(node.all_input_nodes[0])
        return len(source) == 4 and source[2:] == (1, 1) and len(shape(node)) == 2
    means = node.target == "mean" if node.op == "call_method" else node.target is torch.mean
    if means:
        dimensions = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        return dimensions in ((2, 3), [2, 3], (-2, -1), [-2, -1])
    return False


def _dimension(cat: fx.Node) -> object:
    return cat.args[1] if len(cat.args) > 1 else cat.kwargs.get("dim", 0)


def _pads(convolution: Convolution) -> bool:
    if isinstance(convolution.padding, str):
        return convolution.padding != "valid" and any(size > 1 for size in convolution.kernel_size)
    return any(amount > 0 for amount in convolution.padding)


def _describe(module: fx.GraphModule, node: fx.Node) -> str:
    """`a ReLU (streams.a.0.relu)`, `cat`, `the output`."""
    if node.op == "output":
        return "the output"
    if node.op == "placeholder":
        return "the input"
    called = layer(module, node)
    if called is not None:
        return f"{type(called).__name__} {node.target}"
    return node.target if isinstance(node.target, str) else node.target.__name__


def _replace_linear(module: fx.GraphModule, name: str, fold: Callable[[Linear], Linear]) -> None:
    replace_layer(module, name, fold(module.get_submodule(name)))  # type: ignore[arg-type]


def _with_weights(old: Linear, weight: Tensor, bias: Tensor) -> Linear:
    """A copy of a layer with other weights; the layer itself may be shared with another network."""
    new = deepcopy(old)
    new.weight = nn.Parameter(weight.float(), requires_grad=False)
    new.bias = nn.Parameter(bias.float(), requires_grad=False)
    return new


def _erase(module: fx.GraphModule, sites: list[fx.Node]) -> None:
    for site in sites:
        site.replace_all_uses_with(site.all_input_nodes[0])
        module.graph.erase_node(site)
