"""How much each task takes from each stream while a network learns: what its fusion layers share, over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nddr_deploy.network import MultiTaskNetwork
from nddr_deploy.network.fusion import NDDR, CrossStitch, Fusion, Sluice

Columns = dict[str, dict[str, Tensor]]  # task -> stream -> squared norm of what each channel is multiplied by, (C,)
Power = dict[str, dict[str, Tensor]]  # layer -> stream -> mean square of each channel, (C,)


@dataclass(frozen=True)
class Share:
    """What one task's stream takes from one stream at one fusion layer.

    Attributes:
        layer: as in "fusions.0".
        task: the stream that goes on.
        stream: that it takes from.
        share: of all that it takes there; the shares of a (layer, task) sum to 1, NaN where it takes nothing.
    """

    layer: str
    task: str
    stream: str
    share: float


@contextmanager
def stream_power(network: MultiTaskNetwork) -> Iterator[Power]:
    """Note what fusion layers read in a forward pass inside: the mean square of each channel over images and pixels."""
    power: Power = {}

    def noting(layer: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            power[layer] = {stream: x.float().square().mean((0, 2, 3)) for stream, x in inputs[0].items()}

        return note

    hooks = [layer.register_forward_pre_hook(noting(name)) for name, layer in meetings(network).items()]
    try:
        yield power
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def coupling(network: MultiTaskNetwork, power: Power) -> tuple[Share, ...]:
    """The share of every stream in every task, per fusion layer: what `nddr-inspect` says of the exported network.

    For a task whose stream goes on as y = sum over streams s of W_s x_s, the share of stream s is

        |W_s diag(r_s)|_F / sum over all streams t of |W_t diag(r_t)|_F

    with r_s the root mean square of each channel of x_s, and W with the BatchNorm of the layer folded into it as export
    does, gamma / sqrt(variance + eps) times: the columns for "bn-conv", the rows for "conv-bn" and "conv-bn-relu", and
    nothing for "conv-relu-bn", whose BatchNorm stays behind the ReLU. For cross-stitch and sluice units W_s is the
    mixing weight times the identity, for sluice in halves.

    Streams that pass unchanged are left out; the result is empty where no streams meet.

    Args:
        power: from `stream_power`, of a forward pass in evaluation mode.
    """
    norms: dict[tuple[str, str], Mapping[str, Tensor]] = {}
    for name, layer in meetings(network).items():
        for task, columns in COLUMNS[type(layer)](layer).items():
            norms[name, task] = {s: (c.double() @ power[name][s].double()).sqrt() for s, c in columns.items()}
    if not norms:
        return ()
    values = iter(torch.stack([norm for found in norms.values() for norm in found.values()]).tolist())  # one wait
    shares = []
    for (name, task), found in norms.items():
        own = {stream: next(values) for stream in found}
        total = sum(own.values())
        shares += [Share(name, task, stream, norm / total if total else math.nan) for stream, norm in own.items()]
    return tuple(shares)


def meetings(network: MultiTaskNetwork) -> dict[str, Fusion]:
    """Name -> fusion layer, of those where streams meet."""
    return {
        f"fusions.{number}": layer
        for number, layer in enumerate(network.fusions)
        if isinstance(layer, Fusion) and type(layer) in COLUMNS
    }


def _of_nddr(layer: NDDR) -> Columns:
    columns: Columns = {}
    for task, streams in layer.inputs.items():
        parts: dict[str, Any] = dict(layer.layers[task].named_children())
        order = "-".join(parts)
        weights = parts["conv"].weight.double().flatten(1)  # (C, K * C)
        if order == "bn-conv":
            weights = weights * _scale(parts["bn"])
        elif order.startswith("conv-bn"):
            weights = weights * _scale(parts["bn"])[:, None]
        columns[task] = dict(zip(streams, weights.square().sum(0).split(layer.channels), strict=True))
    return columns


def _scale(norm: Any) -> Tensor:
    """What BatchNorm multiplies each channel by in evaluation mode."""
    scale: Tensor = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
    return scale


def _of_cross_stitch(layer: CrossStitch) -> Columns:
    squares = layer.mix.flatten(2).square().expand(-1, -1, layer.channels)  # (K, K, C)
    return {
        task: {stream: squares[row, column] for column, stream in enumerate(layer.streams)}
        for row, task in enumerate(layer.streams)
    }


def _of_sluice(layer: Sluice) -> Columns:
    count = len(layer.streams)
    halves = len(layer.mix) // count
    squares = (
        layer.mix.square().reshape(count, halves, count, halves).sum(1)
    )  # (K, K, halves): of both halves of a task
    per_channel = squares.repeat_interleave(layer.channels // halves, dim=2)
    return {
        task: {stream: per_channel[row, column] for column, stream in enumerate(layer.streams)}
        for row, task in enumerate(layer.streams)
    }


COLUMNS: Mapping[type[Fusion], Callable[[Any], Columns]] = {
    NDDR: _of_nddr,
    CrossStitch: _of_cross_stitch,
    Sluice: _of_sluice,
}
