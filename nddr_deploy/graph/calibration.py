"""Between which values the tensors of a graph lie on some pictures: what quantisation is made from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.graph.entropy import bins_to_keep
from nddr_deploy.graph.flat import check_flat, drop_unused
from nddr_deploy.graph.statistics import Figure, Run, measure
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

METHODS = ("minmax", "percentile", "entropy")
LEVELS = 128  # that the entropy method rounds to: the 8-bit values of one sign
MOST_BYTES = 2**29  # of tensors that leave the graph at once


@dataclass(frozen=True)
class Range:
    """The values that a tensor is quantised between."""

    low: float
    high: float


def calibrate(
    model: onnx.ModelProto,
    tensors: Collection[str],
    batches: Iterable[Image],
    run: Run,
    *,
    method: str = "minmax",
    percentile: float = 99.99,
    bins: int = 4096,
    symmetric: bool = False,
    progress: Callable[[], None] | None = None,
) -> dict[str, Range]:
    """The range of every tensor over some pictures.

    "minmax" takes the extremes. The two others cut off what is rare: "percentile" leaves (100 - percentile) % of the
    values outside, half of it on each side; "entropy" chooses the cut, the same on both sides of zero, after which the
    values in 128 levels of each sign are most like before, see `graph.entropy`.

    Memory: one picture at a time; for the two others at most `MOST_BYTES` of its tensors, or one tensor, leave the
    graph at once, and pictures are run again for the next ones.

    Args:
        model: one flat float32 graph that takes `images`; left as it was.
        tensors: names of tensors.
        batches: uint8 (N, H, W, 3) each, that the model takes; gone through several times.
        run: loads a serialised model and returns what computes its outputs from images.
        method: one of `METHODS`.
        percentile: of that method, 50 to 100.
        bins: of the histograms, from the largest magnitude below zero to that above; an even number.
        symmetric: the same distance to both sides of zero, as TensorRT quantises.
        progress: called after each batch of each pass.

    Raises:
        ConfigError: an unknown method or tensor, or a setting that makes no sense.
        InputError: no pictures, or values that are no numbers.
    """
    if method not in METHODS:
        raise unknown_choice("method", method, METHODS)
    if not 50 < percentile <= 100:
        raise ConfigError(f"percentile: got {percentile:g}; expected more than 50, and at most 100.")
    if bins < 4 * LEVELS or bins % 2:
        raise ConfigError(
            f"bins: got {bins}; expected an even number from {4 * LEVELS}: fewer leave nothing to choose."
        )
    extremes = measure(model, tensors, ("low", "high"), batches, run, progress=progress)
    ranges = {name: Range(float(found["low"]), float(found["high"])) for name, found in extremes.items()}
    if method != "minmax":
        ranges = _cut(model, ranges, batches, run, method, percentile, bins, symmetric, progress)
    if symmetric:
        ranges = {name: _symmetric(found) for name, found in ranges.items()}
    return ranges


def channel_ranges(
    model: onnx.ModelProto, tensors: Collection[str], batches: Iterable[Image], run: Run, *, dimensions: int = 4
) -> dict[str, tuple[Array, Array]]:
    """Tensor (N, C, ...) -> the least and the largest value of each channel, (C,) float64 each.

    Args:
        dimensions: that all of the tensors have.
    """
    found = measure(model, tensors, ("low", "high"), batches, run, per_channel=dimensions)
    return {name: (figures["low"], figures["high"]) for name, figures in found.items()}


def channel_power(
    model: onnx.ModelProto, tensors: Collection[str], batches: Iterable[Image], run: Run, *, dimensions: int = 4
) -> dict[str, Array]:
    """Tensor (N, C, ...) -> the mean square of each channel, (C,) float64; pictures count alike."""
    figures: tuple[Figure, ...] = ("power",)
    found = measure(model, tensors, figures, batches, run, per_channel=dimensions)
    return {name: values["power"] for name, values in found.items()}


def _symmetric(found: Range) -> Range:
    magnitude = max(abs(found.low), abs(found.high))
    return Range(-magnitude, magnitude)


def _cut(
    model: onnx.ModelProto,
    extremes: Mapping[str, Range],
    batches: Iterable[Image],
    run: Run,
    method: str,
    percentile: float,
    bins: int,
    symmetric: bool,
    progress: Callable[[], None] | None,
) -> dict[str, Range]:
    varying = {name: each for name, each in extremes.items() if each.low < each.high}
    found = {name: each for name, each in extremes.items() if name not in varying}
    for name, counts in _histograms(model, varying, batches, run, bins, progress):
        low, high = varying[name].low, varying[name].high
        magnitude = max(abs(low), abs(high))
        magnitudes = counts[bins // 2 :] + counts[: bins // 2][::-1]
        if method == "entropy":
            least, most = _both_sides(bins_to_keep(magnitudes, LEVELS) / (bins // 2) * magnitude)
        elif symmetric:
            least, most = _both_sides(_reached(magnitudes, percentile / 100) / (bins // 2) * magnitude)
        else:
            outside = (1 - percentile / 100) / 2
            least = (1 - 2 * _reached(counts[::-1], 1 - outside) / bins) * magnitude
            most = (2 * _reached(counts, 1 - outside) / bins - 1) * magnitude
        found[name] = Range(max(least, low), min(most, high))
    return found


def _both_sides(cut: float) -> tuple[float, float]:
    return -cut, cut


def _reached(counts: Array, share: float) -> int:
    """How many of the first bins hold that share of all values."""
    sums = np.cumsum(counts)
    return int(np.searchsorted(sums, share * sums[-1])) + 1


def _histograms(
    model: onnx.ModelProto,
    extremes: Mapping[str, Range],
    batches: Iterable[Image],
    run: Run,
    bins: int,
    progress: Callable[[], None] | None,
) -> Iterable[tuple[str, Array]]:
    """Tensor after tensor, the counts (bins,) of its values between the largest magnitude below zero and above."""
    for group in _groups(model, list(extremes), batches, run):
        infer = run(_with_outputs(model, group))
        counts = {name: np.zeros(bins, np.int64) for name in group}
        for images in batches:
            for name, values in infer(images).items():
                magnitude = max(abs(extremes[name].low), abs(extremes[name].high))
                counts[name] += np.histogram(values, bins, (-magnitude, magnitude))[0]
            if progress is not None:
                progress()
        yield from counts.items()


def _groups(model: onnx.ModelProto, tensors: Sequence[str], batches: Iterable[Image], run: Run) -> list[list[str]]:
    """Neighbours in the graph that together fit into `MOST_BYTES`, by their sizes on the first picture."""
    if not tensors:
        return []
    first = next(iter(batches))
    sizes = {name.removeprefix("size of "): int(size) for name, size in run(_with_sizes(model, tensors))(first).items()}
    groups: list[list[str]] = []
    room = 0
    for name in tensors:
        if 4 * sizes[name] > room:
            groups.append([])
            room = MOST_BYTES
        groups[-1].append(name)
        room -= 4 * sizes[name]
    return groups


def _with_sizes(model: onnx.ModelProto, tensors: Collection[str]) -> bytes:
    """A model whose outputs are, per tensor `x`, "size of x": how many values it has."""
    renamed = onnx.ModelProto.FromString(_with_outputs(model, tensors))
    del renamed.graph.output[:]
    for name in tensors:
        renamed.graph.node.append(helper.make_node("Size", [name], [f"size of {name}"]))
        renamed.graph.output.append(helper.make_tensor_value_info(f"size of {name}", TensorProto.INT64, []))
    return bytes(renamed.SerializeToString())


def _with_outputs(model: onnx.ModelProto, tensors: Collection[str]) -> bytes:
    check_flat(model)
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:], opened.graph.value_info[:]
    opened.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    drop_unused(opened.graph)  # what comes after them would be computed, too
    return bytes(opened.SerializeToString())
