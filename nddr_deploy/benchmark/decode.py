"""Decoding on the CPU against decoding in the graph: `Segmentation.decode` against Resize + ArgMax in ONNX Runtime."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy import optional
from nddr_deploy.benchmark.cases import installed_versions
from nddr_deploy.benchmark.table import Table
from nddr_deploy.benchmark.timing import Spread, ratios
from nddr_deploy.engines.machine import describe_machine
from nddr_deploy.resize import CONVENTIONS, Convention, Grid
from nddr_deploy.tasks import Segmentation

Scores = npt.NDArray[np.float32]  # (C, h, w)
Labels = npt.NDArray[np.integer[Any]]  # (H, W)

CLASSES = 40
RAW_HW, SIZE_HW = (60, 80), (480, 640)
IMAGES = 4  # 1.2 million pixels
PASSES = 5  # of each side, in turn, per round
TIE = 1e-5  # of the scores' range: closer than this, float32 arithmetic decides which of two scores is the best
KINDS = ("regions", "noise")


@dataclass(frozen=True)
class DecodingRow:
    """One kind of scores in one resize convention.

    Attributes:
        scores: "regions" (smooth, as a trained network's) or "noise" (every pixel for itself, the hardest to rule out).
        decode_s, graph_s: processor time on one thread for one map, median.
        speedup: of decode over the graph, by rounds.
        pixels, different: compared, and labelled differently.
        ties: of the different ones, those whose two labels both score within `TIE` of the best.
    """

    scores: str
    convention: str
    decode_s: float
    graph_s: float
    speedup: Spread
    pixels: int
    different: int
    ties: int


def compare_decoding(*, rounds: int = 5) -> list[DecodingRow]:
    """40 classes from 60x80 to 480x640, one thread each, in turns; the labels are compared pixel by pixel."""
    return [_compare(kind, convention, rounds) for kind in KINDS for convention in CONVENTIONS]


def _compare(kind: str, convention: Convention, rounds: int) -> DecodingRow:
    maps = [random_scores(kind, seed) for seed in range(IMAGES)]
    task = Segmentation(classes=tuple(f"class {index}" for index in range(CLASSES)))
    session = optional.load("nddr_deploy.engines.ort:open_session", extra="cpu")(
        resize_and_argmax(convention).SerializeToString(), threads=1
    )
    decode = [_call(lambda raw: task.decode(raw, Grid.between(RAW_HW, SIZE_HW, convention)), raw) for raw in maps]
    graph = [_call(lambda raw: session.run(None, {"scores": raw[None]})[0][0], raw) for raw in maps]
    different = ties = 0
    for raw, ours, theirs in zip(maps, decode, graph, strict=True):  # warms both sides up, too
        count, close = compare_labels(raw, ours(), theirs(), Grid.between(RAW_HW, SIZE_HW, convention))
        different, ties = different + count, ties + close
    decode_s: list[list[float]] = []
    graph_s: list[list[float]] = []
    for _ in range(rounds):
        turns = [(_processor_s(decode[index % IMAGES]), _processor_s(graph[index % IMAGES])) for index in range(PASSES)]
        decode_s.append([ours for ours, _ in turns])
        graph_s.append([theirs for _, theirs in turns])
    return DecodingRow(
        scores=kind,
        convention=convention,
        decode_s=statistics.median(sum(decode_s, [])),
        graph_s=statistics.median(sum(graph_s, [])),
        speedup=ratios(graph_s, decode_s),
        pixels=IMAGES * SIZE_HW[0] * SIZE_HW[1],
        different=different,
        ties=ties,
    )


def compare_labels(raw: Scores, ours: Labels, theirs: Labels, grid: Grid) -> tuple[int, int]:
    """How many labels differ, and how many of those are ties: both labels score within `TIE` of the best.

    The scores that decide are interpolated in float64.
    """
    rows, columns = np.nonzero(ours != theirs)
    top, left = (
        np.minimum(np.floor(at).astype(int), size - 2)
        for at, size in zip((grid.rows, grid.columns), grid.source_hw, strict=True)
    )
    down, right = (grid.rows - top)[rows], (grid.columns - left)[columns]
    top, left = top[rows], left[columns]
    values = raw.astype(np.float64)
    above = values[:, top, left] * (1 - right) + values[:, top, left + 1] * right
    below = values[:, top + 1, left] * (1 - right) + values[:, top + 1, left + 1] * right
    scores = above * (1 - down) + below * down  # (C, differing pixels)
    at = np.arange(len(rows))
    worse = np.minimum(scores[ours[rows, columns], at], scores[theirs[rows, columns], at])
    close = scores.max(axis=0) - worse <= TIE * np.ptp(values) if len(rows) else np.zeros(0, bool)
    return len(rows), int(close.sum())


def random_scores(kind: str, seed: int) -> Scores:
    """(C, h, w) scores: "noise" is independent everywhere, "regions" is noise of a tenth of the size, enlarged."""
    generator = np.random.default_rng(seed)
    if kind == "noise":
        return generator.normal(size=(CLASSES, *RAW_HW)).astype(np.float32)
    import cv2

    coarse = generator.normal(size=(CLASSES, RAW_HW[0] // 10, RAW_HW[1] // 10)).astype(np.float32)
    enlarged = [cv2.resize(plane, RAW_HW[::-1], interpolation=cv2.INTER_CUBIC) for plane in coarse]
    fine = generator.normal(scale=0.05, size=(CLASSES, *RAW_HW))
    return (np.stack(enlarged) + fine).astype(np.float32)


def resize_and_argmax(convention: Convention) -> onnx.ModelProto:
    """The graph that decodes: scores (1, C, h, w) -> labels (1, H, W)."""
    sizes = numpy_helper.from_array(np.array([1, CLASSES, *SIZE_HW], dtype=np.int64), "sizes")
    nodes = [
        helper.make_node(
            "Resize",
            ["scores", "", "", "sizes"],
            ["full"],
            mode="linear",
            coordinate_transformation_mode=convention,
        ),
        helper.make_node("ArgMax", ["full"], ["labels"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "decode",
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, CLASSES, *RAW_HW])],
        [helper.make_tensor_value_info("labels", TensorProto.INT64, [1, *SIZE_HW])],
        [sizes],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def as_table(rows: Sequence[DecodingRow]) -> Table:
    size = "x".join(map(str, SIZE_HW))
    return Table(
        f"{CLASSES} classes to {size}, one thread: Task.decode against Resize + ArgMax in ONNX Runtime",
        ("scores", "convention", "speed-up", "decode ms", "graph ms", "labels differ", "of them ties"),
        tuple(
            (
                row.scores,
                row.convention,
                f"{row.speedup.median:.1f} ({row.speedup.min:.1f}-{row.speedup.max:.1f})",
                f"{1000 * row.decode_s:.2f}",
                f"{1000 * row.graph_s:.2f}",
                f"{row.different} of {row.pixels}",
                str(row.ties),
            )
            for row in rows
        ),
    )


def to_dict(rows: Sequence[DecodingRow]) -> dict[str, Any]:
    """JSON values, with what they were measured on."""
    return {
        "format": "nddr-deploy-decoding/1",
        "machine": describe_machine().to_dict(),
        "versions": installed_versions(),
        "rows": [asdict(row) for row in rows],
    }


def _call(function: Callable[[Scores], Labels], raw: Scores) -> Callable[[], Labels]:
    return lambda: function(raw)


def _processor_s(run: Callable[[], Labels]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start
