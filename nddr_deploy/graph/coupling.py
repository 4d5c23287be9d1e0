"""How much each task takes from each stream: what NDDR layers learnt to share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from nddr_deploy.errors import ConfigError
from nddr_deploy.graph.calibration import channel_power
from nddr_deploy.graph.in_float import in_float
from nddr_deploy.graph.joins import Join, joins
from nddr_deploy.graph.statistics import Run
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

Place = tuple[str, str, str]  # layer, task, stream


@dataclass(frozen=True)
class Block:
    """What one task takes from one stream at one layer.

    Attributes:
        layer: as in "fusions.0".
        task: whose stream goes on with it.
        stream: that it is taken from.
        share: of all that the task takes there; the shares of a (layer, task) sum to 1, NaN where it takes nothing.
        weight_norm: Frobenius norm of the block's weights.
        activation: root mean square of the stream's values as the weights meet them.
        can_be_cut: whether it is a block of columns, see `prune_coupling`.
    """

    layer: str
    task: str
    stream: str
    share: float
    weight_norm: float
    activation: float
    can_be_cut: bool = True

    @property
    def place(self) -> Place:
        return self.layer, self.task, self.stream


def measure_coupling(model: onnx.ModelProto, batches: Iterable[Image], run: Run) -> tuple[Block, ...]:
    """`coupling` of a model on some images; empty where no streams meet.

    Args:
        model: flat; quantised and FP16 graphs are measured as what they stand for. Left as it was.
        batches: uint8 (N, H, W, 3) each, that the model takes.
        run: loads a serialised model and returns what computes its outputs from images.

    Raises:
        InputError: no images, or values that are no numbers.
        ModelFileError, UnsupportedError: as `joins`.
    """
    plain = in_float(model)
    found = joins(plain)
    return coupling(found, channel_power(plain, tensors_to_measure(found), batches, run)) if found else ()


def tensors_to_measure(found: Sequence[Join]) -> tuple[str, ...]:
    """Those of which `coupling` needs the power per channel."""
    return tuple(dict.fromkeys(term.tensor for join in found for term in join.terms))


def coupling(found: Sequence[Join], power: Mapping[str, Array]) -> tuple[Block, ...]:
    """The share of every stream in every task, per fusion layer.

    For a task whose stream goes on as y = sum over streams s of W_s x_s, the share of stream s is

        |W_s diag(r_s)|_F / sum over all streams t of |W_t diag(r_t)|_F

    with r_s the root mean square of each channel of x_s over images and pixels: a weight counts as much as the values
    that it meets. Where channels do not depend on each other, that norm is the root mean square of what the stream adds
    to y. So a network keeps its shares when BatchNorm is folded or streams are equalised.

    Args:
        found: from `joins`.
        power: tensor -> mean square of each channel (C,), of at least `tensors_to_measure`.
    """
    return tuple(block for join in found for block in _blocks(join, power))


def _blocks(join: Join, power: Mapping[str, Array]) -> list[Block]:
    streams = list(dict.fromkeys(term.stream for term in join.terms))
    norms, weights, activations = [], [], []
    for stream in streams:
        terms = [term for term in join.terms if term.stream == stream]
        squares = [np.asarray(power[term.tensor], np.float64)[term.channels] for term in terms]
        columns = [np.broadcast_to(np.square(term.weights), s.shape) for term, s in zip(terms, squares, strict=True)]
        norms.append(np.sqrt(sum(float(c @ s) for c, s in zip(columns, squares, strict=True))))
        weights.append(float(np.sqrt(sum(float(c.sum()) for c in columns))))
        activations.append(float(np.sqrt(np.concatenate(squares).mean())))
    total = float(sum(norms))
    shares = [float(norm) / total if total else float("nan") for norm in norms]
    return [
        Block(join.layer, join.task, stream, share, weight, activation, join.blocks)
        for stream, share, weight, activation in zip(streams, shares, weights, activations, strict=True)
    ]


def negligible_blocks(blocks: Sequence[Block], threshold: float) -> tuple[Place, ...]:
    """The blocks with a share below `threshold`, in order; the largest of a (layer, task) is never among them.

    Raises:
        ConfigError: a threshold that is no share, or so large that half of what a task takes would count as nothing.
    """
    check_threshold(threshold)
    largest: dict[tuple[str, str], float] = {}
    for block in blocks:
        place = (block.layer, block.task)
        largest[place] = max(largest.get(place, 0.0), block.share)
    return tuple(
        block.place
        for block in blocks
        if block.can_be_cut and block.share < threshold and block.share < largest[(block.layer, block.task)]
    )


def check_threshold(threshold: float) -> None:
    """Raise ConfigError unless it is a share that may count as negligible."""
    if not 0 < threshold <= 0.5:
        raise ConfigError(f"prune-coupling: got {threshold:g}; expected a share above 0 and at most 0.5, as in 0.02.")
