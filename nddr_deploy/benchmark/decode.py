"""Class scores to labels: `Segmentation.decode` against Resize + ArgMax in the graph, on one thread each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy import optional, resample
from nddr_deploy.benchmark.cases import installed_versions
from nddr_deploy.benchmark.table import Table
from nddr_deploy.benchmark.timing import Percentiles, Spread, ratios, time_passes
from nddr_deploy.engines.machine import describe_machine
from nddr_deploy.errors import ConfigError
from nddr_deploy.resize import CONVENTIONS, Convention, Grid
from nddr_deploy.tasks import Segmentation

Scores = npt.NDArray[np.float32]  # (C, h, w)
Labels = npt.NDArray[Any]  # (H, W), of any integer type

OPSET = 17
IR_VERSION = 8
TIE = 1e-5  # of the range of the scores: closer than that, rounding decides which class is the best
# (h, w) of a region of a trained network's scores, and its noise relative to the regions' own scores.
REGION_HW = (10, 10)
NOISE = 0.1


@dataclass(frozen=True)
class Comparison:
    """One kind of scores in one resize convention.

    Attributes:
        scores: "smooth" (regions, as a trained network makes them) or "random" (independent at every pixel: the worst
            case, because no class can be ruled out).
        convention: of the resize.
        decode_s, graph_s: processor time of a pass.
        speedup: how many times faster `Segmentation.decode` is: the ratio of the medians of each round.
        pixels: of the labels.
        different: pixels whose label is not the graph's.
        not_ties: how many of these have one of the two labels further below the best score than `TIE`.
        largest_gap: the furthest that such a label lies below the best score, over the range of the scores.
    """

    scores: str
    convention: Convention
    decode_s: Percentiles
    graph_s: Percentiles
    speedup: Spread
    pixels: int
    different: int
    not_ties: int
    largest_gap: float


def compare_decoding(
    *,
    rounds: int = 5,
    seconds: float = 0.3,
    classes: int = 40,
    source_hw: tuple[int, int] = (60, 80),
    size_hw: tuple[int, int] = (480, 640),
) -> list[Comparison]:
    """Measure both ways in turns, for smooth and random scores in all three conventions, and compare their labels.

    >>> for found in compare_decoding():                                                        # doctest: +SKIP
    ...     print(found.scores, found.convention, found.speedup.median, found.different)

    Args:
        rounds: how often the two take turns.
        seconds: of measuring per turn; every turn has at least one pass.
        classes, source_hw: of the scores.
        size_hw: of the labels.

    Raises:
        ConfigError: a number that is not above zero, or more than 255 classes.
        MissingPackageError: ONNX Runtime is not installed.
    """
    if rounds < 1 or not seconds > 0 or min(*source_hw, *size_hw) < 1:
        raise ConfigError(
            f"rounds, seconds and sizes must be above zero; got {rounds}, {seconds}, {source_hw}, {size_hw}."
        )
    task = Segmentation(classes=tuple(f"class {number}" for number in range(classes)))
    open_session = optional.load("nddr_deploy.engines.ort:open_session", extra="cpu")
    found = []
    for kind, scores in (("smooth", smooth_scores(classes, source_hw)), ("random", random_scores(classes, source_hw))):
        for convention in CONVENTIONS:
            grid = Grid.between(source_hw, size_hw, convention)
            model = resize_and_argmax(scores.shape, size_hw, convention)
            session = open_session(model.SerializeToString(), threads=1)
            feed = {"scores": scores[None]}

            # Defined in a loop, but only used in this turn of it.
            def in_graph(session: Any = session, feed: dict[str, Scores] = feed) -> Labels:
                labels: Labels = session.run(None, feed)[0][0]
                return labels

            def by_task(scores: Scores = scores, grid: Grid = grid) -> Labels:
                return task.decode(scores, grid)

            different, not_ties, largest_gap = compare_labels(scores, grid, by_task(), in_graph())
            turns = [(time_passes(in_graph, seconds).cpu_s, time_passes(by_task, seconds).cpu_s) for _ in range(rounds)]
            graph_s, decode_s = zip(*turns, strict=True)
            found.append(
                Comparison(
                    scores=kind,
                    convention=convention,
                    decode_s=_percentiles(decode_s),
                    graph_s=_percentiles(graph_s),
                    speedup=ratios(graph_s, decode_s),
                    pixels=size_hw[0] * size_hw[1],
                    different=different,
                    not_ties=not_ties,
                    largest_gap=largest_gap,
                )
            )
    return found


def resize_and_argmax(shape: Sequence[int], size_hw: tuple[int, int], convention: Convention) -> onnx.ModelProto:
    """The graph: scores (1, C, h, w) -> labels (1, H, W) int64."""
    batched = [1, *shape]
    sizes = numpy_helper.from_array(np.array([*batched[:2], *size_hw], dtype=np.int64), "sizes")
    nodes = [
        helper.make_node(
            "Resize",
            ["scores", "", "", "sizes"],
            ["resized"],
            mode="linear",
            coordinate_transformation_mode=convention,  # ONNX knows the three by the same names
        ),
        helper.make_node("ArgMax", ["resized"], ["labels"], axis=1, keepdims=0),
    ]
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, batched)
    labels = helper.make_tensor_value_info("labels", TensorProto.INT64, [1, *size_hw])
    graph = helper.make_graph(nodes, "decode", [scores], [labels], [sizes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def compare_labels(scores: Scores, grid: Grid, labels: Labels, others: Labels) -> tuple[int, int, float]:
    """Where two label maps of the same scores differ, and whether both are right there.

    The interpolated scores are computed anew in float64, only where the labels differ.

    Returns:
        How many pixels differ; at how many of these one of the two labels scores worse than the best class by more
        than `TIE` of the range; and the largest such distance over the range (0 where nothing differs).
    """
    y, x = np.nonzero(labels != others)
    if not y.size:
        return 0, 0, 0.0
    values = _interpolated(scores, grid.rows[y], grid.columns[x])  # (C, different pixels)
    at = np.arange(y.size)
    worse = np.minimum(values[labels[y, x], at], values[others[y, x], at])
    gaps = (values.max(axis=0) - worse) / np.ptp(scores)
    return int(y.size), int((gaps > TIE).sum()), float(gaps.max())


def smooth_scores(classes: int, source_hw: tuple[int, int]) -> Scores:
    """Regions of a few pixels with soft borders and some noise."""
    generator = np.random.default_rng(0)
    coarse_hw = (max(2, source_hw[0] // REGION_HW[0]), max(2, source_hw[1] // REGION_HW[1]))
    coarse = generator.normal(size=(classes, *coarse_hw)).astype(np.float32)
    regions = resample.bilinear(coarse, Grid.between(coarse_hw, source_hw, "align_corners"))
    return regions + np.float32(NOISE) * random_scores(classes, source_hw)


def random_scores(classes: int, source_hw: tuple[int, int]) -> Scores:
    """Independent at every pixel."""
    return np.random.default_rng(1).normal(size=(classes, *source_hw)).astype(np.float32)


def as_table(found: Sequence[Comparison]) -> Table:
    """For people."""
    rows = [
        (
            f"{one.scores}, {one.convention}",
            f"{one.speedup.median:.1f} ({one.speedup.min:.1f}-{one.speedup.max:.1f})",
            f"{1000 * one.decode_s.p50:.2f}",
            f"{1000 * one.graph_s.p50:.1f}",
            f"{1e6 * one.different / one.pixels:.1f}",
            str(one.not_ties),
            f"{one.largest_gap:.1e}",
        )
        for one in found
    ]
    return Table(
        "Scores to labels, one thread, processor time: Segmentation.decode against Resize + ArgMax in ONNX Runtime",
        ("scores", "speed-up", "decode ms", "graph ms", "differ / million", "no ties", "gap / range"),
        tuple(rows),
    )


def to_dict(found: Sequence[Comparison]) -> dict[str, Any]:
    """JSON values, with what it was measured on."""
    return {
        "format": "nddr-deploy-decoding/1",
        "machine": describe_machine().to_dict(),
        "versions": installed_versions(),
        "tie": TIE,
        "comparisons": [asdict(one) for one in found],
    }


def _interpolated(scores: Scores, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]) -> Any:
    """(C, n) float64 at n points, written independently of `nddr_deploy.resample`."""
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    bottom, right = np.minimum(top + 1, scores.shape[1] - 1), np.minimum(left + 1, scores.shape[2] - 1)
    down, across = rows - top, columns - left
    exact = scores.astype(np.float64)
    upper = exact[:, top, left] * (1 - across) + exact[:, top, right] * across
    lower = exact[:, bottom, left] * (1 - across) + exact[:, bottom, right] * across
    return upper * (1 - down) + lower * down


def _percentiles(turns: Sequence[Sequence[float]]) -> Percentiles:
    return Percentiles.of([time for turn in turns for time in turn])
