"""What tasks take from streams, against shares that are computed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from graph_subjects import exported, quantised, ranges_of, run, small
from onnx import helper, numpy_helper

from nddr_deploy.errors import ConfigError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.coupling import Block, measure_coupling, negligible_blocks
from nddr_deploy.graph.fp16 import to_fp16
from nddr_deploy.graph.joins import joins

ROUNDING = 1e-6  # of float32 sums, as a share
IMAGES = [probe_images((8, 10), 1)]


def constant_streams(values: Mapping[str, Sequence[float]], matrices: Mapping[str, Any]) -> onnx.ModelProto:
    """One NDDR layer over streams whose channels are the same everywhere, so that their RMS is known.

    Args:
        values: stream -> what its channels hold.
        matrices: task -> (out, all channels).
    """
    nodes, weights = [], {}
    for task, channels in values.items():
        name = f"stages.0.{task}.conv"
        weights[f"{name}.weight"] = np.zeros((len(channels), 3, 1, 1), np.float32)
        weights[f"{name}.bias"] = np.float32(channels)
        nodes.append(helper.make_node("Conv", ["x", f"{name}.weight", f"{name}.bias"], [f"{name}/Conv"]))
    nodes.append(helper.make_node("Concat", [f"stages.0.{task}.conv/Conv" for task in values], ["joined"], axis=1))
    for task, matrix in matrices.items():
        name = f"fusions.0.layers.{task}.conv"
        weights[f"{name}.weight"] = np.float32(matrix)[..., None, None]
        nodes.append(helper.make_node("Conv", ["joined", f"{name}.weight"], [task], name=f"{name}/Conv"))
    return small(nodes, weights, dict.fromkeys(matrices, onnx.TensorProto.FLOAT))


def shares_of(model: onnx.ModelProto, images: Sequence[Any] = IMAGES) -> dict[tuple[str, str, str], float]:
    return {block.place: block.share for block in measure_coupling(model, images, run)}


def test_a_share_is_the_norm_of_the_columns_each_times_the_rms_of_its_channel() -> None:
    model = constant_streams(
        {"segmentation": [3, -4], "normals": [1, 2]},
        {
            "segmentation": [[1, 0, 2, 0], [0, 1, 0, 2]],
            "normals": [[0, 0, 0.5, 0], [0.6, 0, 0, 0.5], [0.8, 0, 0, 0]],
        },
    )

    shares = shares_of(model)

    own, other = 5.0, 2 * 5**0.5  # |(1 * 3, 1 * 4)|, |(2 * 1, 2 * 2)|
    assert shares["fusions.0", "segmentation", "segmentation"] == pytest.approx(own / (own + other), abs=ROUNDING)
    assert shares["fusions.0", "segmentation", "normals"] == pytest.approx(other / (own + other), abs=ROUNDING)
    own, other = 0.5 * 5**0.5, 3.0  # |(0.5 * 1, 0.5 * 2)|, |(0.6 * 3, 0.8 * 3)|
    assert shares["fusions.0", "normals", "normals"] == pytest.approx(own / (own + other), abs=ROUNDING)


def test_three_tasks_of_different_widths() -> None:
    model = constant_streams(
        {"segmentation": [2], "normals": [0, 6], "depth": [1, 2, 2]},
        {"segmentation": [[1, 9, 1, 1, 0, 0]], "normals": [[0, 0, 1, 0, 0, 0]], "depth": [[3, 0, 0, 0, 2, 2]]},
    )

    blocks = {block.place: block for block in measure_coupling(model, IMAGES, run)}

    assert len(blocks) == 9
    expected = {
        "segmentation": (2 / 9, 6 / 9, 1 / 9),
        "normals": (0.0, 1.0, 0.0),
        "depth": (6 / (6 + 32**0.5), 0.0, 32**0.5 / (6 + 32**0.5)),
    }
    for task, shares in expected.items():
        found = [blocks["fusions.0", task, stream].share for stream in ("segmentation", "normals", "depth")]
        assert found == pytest.approx(shares, abs=ROUNDING)
    from_normals = blocks["fusions.0", "segmentation", "normals"]
    assert from_normals.weight_norm == pytest.approx(82**0.5)  # of (9, 1), silent channels included
    assert from_normals.activation == pytest.approx(18**0.5)  # of (0, 6)


def test_a_task_that_takes_nothing_has_no_shares_and_nothing_to_cut() -> None:
    model = constant_streams({"a": [1], "b": [1]}, {"a": [[0, 0]], "b": [[1, 1]]})

    blocks = measure_coupling(model, IMAGES, run)

    assert [np.isnan(block.share) for block in blocks] == [True, True, False, False]
    assert negligible_blocks(blocks, 0.4) == ()


@pytest.mark.parametrize(
    ("form", "tasks"),
    [
        ("vgg, own features first", 2),
        ("resnet", 2),
        ("resnet 18", 3),
        ("alexnet", 3),
        ("cross-stitch", 2),
        ("sluice", 3),
    ],
)
def test_shares_of_every_layer_and_task_sum_to_one(form: str, tasks: int) -> None:
    size_hw = (131, 163) if form == "alexnet" else (65, 97)
    model = exported(form, tasks=tasks, size_hw=size_hw)

    blocks = measure_coupling(model, list(probe_images(size_hw, 1)[:, None]), run)

    layers = {block.layer for block in blocks}
    assert sorted(layers) == [f"fusions.{number}" for number in range(len(layers))]
    assert len(blocks) == len(layers) * tasks**2
    sums: dict[tuple[str, str], float] = {}
    for block in blocks:
        sums[block.layer, block.task] = sums.get((block.layer, block.task), 0) + block.share
    assert list(sums.values()) == pytest.approx([1.0] * len(sums), abs=1e-12)


def test_one_sided_fusion_has_shares_of_the_tasks_that_are_fused_alone() -> None:
    blocks = measure_coupling(exported("resnet 18, one-sided"), list(probe_images((65, 97), 1)[:, None]), run)

    assert {(block.task, block.stream) for block in blocks} == {("normals", "segmentation"), ("normals", "normals")}


def test_shares_stay_when_a_stream_is_made_larger_and_its_columns_smaller() -> None:
    model = exported("resnet 18")
    images = list(probe_images((65, 97), 2)[:, None])
    before = shares_of(model, images)
    scaled = onnx.ModelProto.FromString(model.SerializeToString())
    weights = {weight.name: weight for weight in scaled.graph.initializer}
    for name, factor, part in (
        ("stages.0.normals.conv1.weight", 7.0, slice(None)),
        ("stages.0.normals.conv1.bias", 7.0, slice(None)),
        ("fusions.0.layers.segmentation.conv.weight", 1 / 7, (slice(None), slice(4, 8))),
        ("fusions.0.layers.normals.conv.weight", 1 / 7, (slice(None), slice(4, 8))),
    ):
        values = numpy_helper.to_array(weights[name]).copy()
        values[part] *= factor
        weights[name].CopyFrom(numpy_helper.from_array(values, name))

    assert shares_of(scaled, images) == pytest.approx(before, abs=ROUNDING)


@pytest.mark.parametrize("form_of", ["TensorRT", "CPU"])
def test_a_quantised_graph_has_the_shares_of_the_float_one(form_of: str) -> None:
    images = list(probe_images((65, 97), 1)[:, None])
    before = shares_of(exported("resnet 18"), images)

    # int8 weights are off by 1 in 254 of a channel's largest: narrow layers move by less than a percentage point
    assert shares_of(quantised("resnet 18", form_of=form_of), images) == pytest.approx(before, abs=0.01)


def test_an_fp16_graph_has_the_shares_of_the_float_one() -> None:
    images = list(probe_images((65, 97), 1)[:, None])
    model = exported("resnet 18")

    halves = to_fp16(model, ranges_of(model, images)).model

    assert shares_of(halves, images) == pytest.approx(shares_of(model, images), abs=1e-3)  # weights have 11 bits


def test_cross_stitch_units_have_shares_but_no_columns_to_cut() -> None:
    model = exported("cross-stitch", tasks=3)
    images = list(probe_images((65, 97), 1)[:, None])
    tasks = ("normals", "age", "segmentation")

    blocks = measure_coupling(model, images, run)

    assert [block.layer for block in blocks] == [f"fusions.{layer}" for layer in range(5) for _ in range(9)]
    assert [(block.task, block.stream) for block in blocks] == 5 * [
        (task, stream) for task in tasks for stream in tasks
    ]
    assert not any(block.can_be_cut for block in blocks)
    weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    entries = [name for name in weights if name.startswith("fusions_1_mix_")]
    entries.sort(key=lambda name: int(name.rpartition("_")[2]))  # row by row
    assert [block.weight_norm for block in blocks if block.layer == "fusions.1"] == pytest.approx(
        [float(np.linalg.norm(weights[name])) for name in entries]
    )
    assert negligible_blocks(blocks, 0.5) == ()


def test_a_sluice_unit_takes_both_halves_of_a_stream() -> None:
    """Halves a, b of each stream hold constants; entry (i, j) of the matrix is what half i takes from half j."""
    matrix = np.float32([[1.0, 0.5, 0.1, 0.0], [0.0, 1.0, 0.2, 0.3], [0.0, 0.0, 1.0, 0.0], [0.4, 0.0, 0.0, 1.0]])
    values = {"segmentation": (3.0, 2.0), "normals": (5.0, 7.0)}
    nodes, weights = [], {"halves.1": np.int64([1]), "halves.0": np.int64([0]), "halves.2": np.int64([2])}
    halves = []
    for task, pair in values.items():
        name = f"stages.0.{task}.conv"
        weights[f"{name}.weight"] = np.zeros((2, 3, 1, 1), np.float32)
        weights[f"{name}.bias"] = np.float32(pair)
        nodes.append(helper.make_node("Conv", ["x", f"{name}.weight", f"{name}.bias"], [f"{name}/Conv"]))
        for half, (start, end) in enumerate((("halves.0", "halves.1"), ("halves.1", "halves.2"))):
            halves.append(f"{name}/Slice_{half}")
            nodes.append(helper.make_node("Slice", [f"{name}/Conv", start, end, "halves.1"], [halves[-1]]))
    sums = []
    for row in range(4):
        total = ""
        for column, half in enumerate(halves):
            entry = f"fusions_0_mix_getitem_{4 * row + column}"
            weights[entry] = matrix[row, column]
            product = f"{half}/Mul_{row}"
            nodes.append(helper.make_node("Mul", [entry, half], [product]))
            if total:
                nodes.append(helper.make_node("Add", [total, product], [f"{product}/Add"]))
                product = f"{product}/Add"
            total = product
        sums.append(total)
    for place, task in enumerate(values):
        weights[f"heads.{task}.conv.weight"] = np.ones((1, 2, 1, 1), np.float32)
        nodes.append(helper.make_node("Concat", sums[2 * place : 2 * place + 2], [f"{task} fused"], axis=1))
        nodes.append(helper.make_node("Conv", [f"{task} fused", f"heads.{task}.conv.weight"], [task]))
    model = small(nodes, weights, dict.fromkeys(values, onnx.TensorProto.FLOAT))

    shares = shares_of(model)

    own = (1.0 * 3) ** 2 + (0.5 * 2) ** 2 + (1.0 * 2) ** 2
    other = (0.1 * 5) ** 2 + (0.2 * 5) ** 2 + (0.3 * 7) ** 2
    expected = own**0.5 / (own**0.5 + other**0.5)
    assert shares["fusions.0", "segmentation", "segmentation"] == pytest.approx(expected, abs=ROUNDING)
    own, other = 5.0**2 + 7.0**2, (0.4 * 3) ** 2
    expected = other**0.5 / (own**0.5 + other**0.5)
    assert shares["fusions.0", "normals", "segmentation"] == pytest.approx(expected, abs=ROUNDING)


def test_a_network_without_fusion_has_no_coupling() -> None:
    model = small([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": np.ones((2, 3, 1, 1), np.float32)})

    assert joins(model) == ()
    assert measure_coupling(model, IMAGES, run) == ()


def blocks_with(*shares: float, can_be_cut: bool = True) -> list[Block]:
    return [
        Block("fusions.0", "depth", f"stream{place}", share, 1.0, 1.0, can_be_cut) for place, share in enumerate(shares)
    ]


def test_blocks_below_the_threshold_are_negligible() -> None:
    assert negligible_blocks(blocks_with(0.015, 0.965, 0.02), 0.02) == (("fusions.0", "depth", "stream0"),)


def test_the_largest_block_stays_whatever_the_threshold() -> None:
    assert negligible_blocks(blocks_with(0.3, 0.4, 0.3), 0.5) == (
        ("fusions.0", "depth", "stream0"),
        ("fusions.0", "depth", "stream2"),
    )
    assert negligible_blocks(blocks_with(1 / 3, 1 / 3, 1 / 3), 0.5) == ()


@pytest.mark.parametrize("threshold", [0.0, -0.1, 0.51, float("nan")])
def test_a_threshold_that_is_no_small_share_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"expected a share above 0 and at most 0\.5"):
        negligible_blocks(blocks_with(0.1, 0.9), threshold)
