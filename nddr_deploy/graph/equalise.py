"""Bringing the streams that an NDDR layer joins to one range, so that one scale serves all of them in int8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx

from nddr_deploy.errors import InputError
from nddr_deploy.graph.calibration import Range
from nddr_deploy.graph.channel_scales import Region, ScaleError, region_of, scale
from nddr_deploy.graph.flat import check_flat, constants_as_weights
from nddr_deploy.graph.fusion_layers import FusionLayer, Stream, fusion_layers
from nddr_deploy.graph.inference import infer, skeleton, tensor_shapes
from nddr_deploy.graph.roles import Flow
from nddr_deploy.tasks.base import Array

Extent: TypeAlias = Range | tuple[Array, Array]  # of a tensor; or the lowest and the highest value of each channel
CHANNEL_BOUND = 4.0  # how much more than its stream's factor a channel's may be
CLOSE = 1.1  # ranges that differ by less than this factor are left as they are
MOST_DOUBLINGS = 12  # of a stream: what is smaller yet says nothing in 8 bits beside the others


@dataclass(frozen=True)
class EqualisedLayer:
    """What became of one layer.

    Attributes:
        name: of the layer, as in "fusions.0".
        factors: stream -> what its channels were multiplied by: (1,), or (C,) where each has its own.
        applied: whether any factor is not 1.
        reason: why not, or for which streams not; empty where nothing was in the way.
        ratio_before, ratio_after: the largest stream's range over the smallest one's.
    """

    name: str
    factors: Mapping[str, Array]
    applied: bool
    reason: str
    ratio_before: float
    ratio_after: float

    def __str__(self) -> str:
        """One line for people."""
        if not self.applied:
            return f"{self.name}: streams left as they are ({self.reason})"
        factors = ", ".join(f"{stream} x {_text(values)}" for stream, values in self.factors.items())
        rest = f" ({self.reason})" if self.reason else ""
        return f"{self.name}: {factors}; ranges {self.ratio_before:.1f}:1 -> {self.ratio_after:.1f}:1{rest}"


@dataclass(frozen=True)
class Equalised:
    """A graph with equalised streams.

    Attributes:
        model: the graph. Ranges of the tensors in it are others: measure them again.
        layers: what became of each NDDR layer, in the graph's order.
    """

    model: onnx.ModelProto
    layers: tuple[EqualisedLayer, ...]


def equalise_streams(
    model: onnx.ModelProto,
    ranges: Mapping[str, Extent],
    *,
    powers_of_two: bool = False,
    channel_bound: float = CHANNEL_BOUND,
) -> Equalised:
    """An equal model in which the streams that each NDDR layer joins have one range.

    A stream's last layer multiplies its weights and bias by a factor, the NDDR layer divides that stream's columns by
    it, and so does everything else that reads the stream; see `channel_scales`. The largest stream stays as it is.
    Where one cannot be scaled, the others follow it. A stream that goes through several layers without a layer of its
    own in between has one factor for all of them, the geometric mean of what each would choose.

    Weights are rounded once more, so float32 outputs move by about 3e-7 of their range. Powers of two would not even do
    that, but leave streams up to a factor of 2 apart: on two trained networks with a stream 23, 30 or 45 times smaller,
    they cost 1 dB on average and 5 dB at worst. A factor per channel gained nothing over one per stream (-2 to
    +1 dB): it flattens activations, and makes the weights that compensate uneven.

    Args:
        model: flat, float32, not quantised; left as it was.
        ranges: of every tensor that an NDDR layer joins; where they are per channel, so are the factors.
        powers_of_two: round factors to them: float32 outputs then stay as they were to the last bit.
        channel_bound: how much more than its whole stream a small channel may be multiplied.

    Raises:
        InputError: the range of a tensor is missing.
        UnsupportedError, ModelFileError: a graph that is not flat, or whose shapes contradict each other.
    """
    check_flat(model)
    equalised = onnx.ModelProto()
    equalised.CopyFrom(constants_as_weights(model))
    layers = fusion_layers(equalised)
    peaks = {stream.tensor: _peaks(stream, layer, ranges) for layer in layers for stream in layer.streams}
    groups = _groups(equalised, layers)
    _choose_factors(layers, groups, peaks, powers_of_two, channel_bound)
    scale(equalised, [(group.region, group.factors) for group in groups if group.region and group.changes])
    return Equalised(equalised, tuple(_report(layer, _by_tensor(groups), peaks) for layer in layers))


@dataclass(eq=False)
class _Group:
    """What is scaled together, and the streams of the layers that it feeds.

    Attributes:
        uses: (name of the layer, its stream).
        factors: (C,), or (1,) for all channels.
        region: None where it cannot be scaled.
        reason: why not.
    """

    uses: list[tuple[str, Stream]]
    factors: Array
    region: Region | None = None
    reason: str = ""

    @property
    def changes(self) -> bool:
        return bool((self.factors != 1).any())

    @property
    def is_shared(self) -> bool:
        return len({name for name, _ in self.uses}) > 1

    def contains(self, stream: Stream) -> bool:
        if self.region is None:
            return any(use.tensor == stream.tensor for _, use in self.uses)
        return np.array_equal(self.region.channels.get(stream.tensor, ()), np.arange(stream.channels))


def _groups(model: onnx.ModelProto, layers: Sequence[FusionLayer]) -> list[_Group]:
    flow = Flow(model)
    shapes = tensor_shapes(infer(skeleton(model)))
    outputs = [value.name for value in model.graph.output]
    groups: list[_Group] = []
    for layer in layers:
        for stream in layer.streams:
            known = next((group for group in groups if group.contains(stream)), None)
            if known is None:
                known = _Group([], np.ones(stream.channels))
                groups.append(known)
                try:
                    known.region = region_of(flow, shapes, outputs, stream.tensor)
                except ScaleError as error:
                    known.reason = str(error)
            elif any(name == layer.name and use.task != stream.task for name, use in known.uses):
                known.region = None
                known.reason = f"it has one factor with another stream that {layer.name} joins"
            known.uses.append((layer.name, stream))
    return groups


def _by_tensor(groups: Sequence[_Group]) -> dict[str, _Group]:
    return {stream.tensor: group for group in groups for _, stream in group.uses}


def _peaks(stream: Stream, layer: FusionLayer, ranges: Mapping[str, Extent]) -> Array:
    """The largest absolute value of a stream, (1,), or of each of its channels, (C,)."""
    if stream.tensor not in ranges:
        raise InputError(
            f"The range of {stream.tensor!r}, which {layer.name} joins, is missing. Measure the ranges of all tensors "
            "that NDDR layers join."
        )
    extent = ranges[stream.tensor]
    ends = (extent.low, extent.high) if isinstance(extent, Range) else extent
    peaks: Array = np.max([np.abs(np.atleast_1d(np.asarray(end, np.float64))) for end in ends], axis=0)
    if peaks.size not in (1, stream.channels) or not np.isfinite(peaks).all():
        raise InputError(
            f"The ranges of {stream.tensor!r} are {peaks.size} pairs of numbers, not all of them finite; expected one, "
            f"or one for each of {stream.channels} channels. Measure them on this model."
        )
    return peaks


def _choose_factors(
    layers: Sequence[FusionLayer],
    groups: Sequence[_Group],
    peaks: Mapping[str, Array],
    powers_of_two: bool,
    channel_bound: float,
) -> None:
    """First for what several layers share, then for the rest, which follows what cannot change any more."""
    group_of = _by_tensor(groups)
    settled = [group for group in groups if group.region is None]
    for shared in (True, False):
        chosen = [group for group in groups if group.region is not None and group.is_shared == shared]
        found: dict[_Group, Array] = {}
        for group in chosen:
            wanted = []
            for name, stream in group.uses:
                joined = next(layer.streams for layer in layers if layer.name == name and stream in layer.streams)
                leading = [other for other in joined if group_of[other.tensor] in settled] or joined
                target = max(_peak(peaks[other.tensor], group_of[other.tensor]) for other in leading)
                if target > 0 and peaks[stream.tensor].max() > 0:
                    wanted.append(_doublings(peaks[stream.tensor], target, channel_bound))
            doublings = np.mean(wanted, axis=0) if wanted else np.zeros(1)
            if np.abs(doublings).max() < np.log2(CLOSE):
                doublings = np.zeros(1)
            found[group] = 2.0 ** (np.round(doublings) if powers_of_two else doublings)
        for group in chosen:
            group.factors = group.factors * found[group]
        settled += chosen


def _doublings(peaks: Array, target: float, channel_bound: float) -> Array:
    """Base-2 logarithms of the factors that bring a stream's range to the target, its small channels nearer to it."""
    whole = np.clip(np.log2(target / peaks.max()), -MOST_DOUBLINGS, MOST_DOUBLINGS)
    with np.errstate(divide="ignore"):  # a channel that is never active
        each = np.log2(target) - np.log2(peaks)
    return np.asarray(np.clip(each, whole, whole + np.log2(channel_bound)))


def _peak(peaks: Array, group: _Group) -> float:
    return float((peaks * group.factors).max())


def _report(layer: FusionLayer, group_of: Mapping[str, _Group], peaks: Mapping[str, Array]) -> EqualisedLayer:
    groups = {stream.task: group_of[stream.tensor] for stream in layer.streams}
    before = [float(peaks[stream.tensor].max()) for stream in layer.streams]
    after = [_peak(peaks[stream.tensor], group_of[stream.tensor]) for stream in layer.streams]
    applied = any(group.changes for group in groups.values())
    reasons = [f"{task}: {group.reason}" for task, group in groups.items() if group.reason]
    if not applied and not reasons:
        reasons = [f"their ranges are {_ratio(before):.1f}:1 already" if max(before) > 0 else "none is ever active"]
    return EqualisedLayer(
        layer.name,
        {task: _short(group.factors) for task, group in groups.items()},
        applied,
        "; ".join(reasons),
        _ratio(before),
        _ratio(after),
    )


def _short(factors: Array) -> Array:
    return factors[:1] if (factors == factors[0]).all() else factors


def _ratio(peaks: Sequence[float]) -> float:
    """1 where no stream is active; those that never are do not count."""
    active = [peak for peak in peaks if peak > 0]
    return max(active) / min(active) if active else 1.0


def _text(factors: Array) -> str:
    low, high = factors.min(), factors.max()
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
