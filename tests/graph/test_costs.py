"""Arithmetic and parameters by part, and what is left of them with fewer tasks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_subjects import exported, quantised, small
from onnx import TensorProto, helper

from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.costs import Cost, costs, subsets
from nddr_deploy.graph.flops import count_flops
from nddr_deploy.manifest import Manifest
from nddr_deploy.tasks.base import Task

sys.path.append(str(Path(__file__).parents[1] / "export"))  # its networks look trained

SIZE = (65, 97)


def float_numbers(model: onnx.ModelProto) -> int:
    """How many numbers the file's floating-point weights hold."""
    return sum(prod(weight.dims) for weight in model.graph.initializer if weight.data_type == TensorProto.FLOAT)


def two_tasks() -> onnx.ModelProto:
    """8 x 10 pixels; a stage, a fusion and a head, each one 1x1 convolution a task."""
    shapes = {
        "stages.0.segmentation.conv": (2, 3),
        "stages.0.normals.conv": (2, 3),
        "fusions.0.layers.segmentation.conv": (2, 4),
        "fusions.0.layers.normals.conv": (2, 4),
        "heads.segmentation.conv": (5, 2),
        "heads.normals.conv": (3, 2),
    }
    reads = ("x", "x", "joined", "joined", "fused segmentation", "fused normals")
    makes = ("s", "n", "fused segmentation", "fused normals", "segmentation", "normals")
    nodes = [
        helper.make_node("Conv", [read, f"{name}.weight"], [made], name=f"{name}/Conv")
        for name, read, made in zip(shapes, reads, makes, strict=True)
    ]
    nodes.insert(2, helper.make_node("Concat", ["s", "n"], ["joined"], axis=1))
    weights = {f"{name}.weight": np.ones((*shape, 1, 1), np.float32) for name, shape in shapes.items()}
    return small(nodes, weights, {"segmentation": TensorProto.FLOAT, "normals": TensorProto.FLOAT})


def test_every_part_has_its_own_arithmetic_and_parameters() -> None:
    both, pixels = ("segmentation", "normals"), 80

    assert costs(two_tasks(), (8, 10)) == (
        Cost("input", "", both, 0, 1),
        Cost("stages.0", "segmentation", both, 2 * 6 * pixels, 6),
        Cost("stages.0", "normals", both, 2 * 6 * pixels, 6),
        Cost("fusions.0", "segmentation", ("segmentation",), 2 * 8 * pixels, 8),
        Cost("fusions.0", "normals", ("normals",), 2 * 8 * pixels, 8),
        Cost("heads", "segmentation", ("segmentation",), 2 * 10 * pixels, 10),
        Cost("heads", "normals", ("normals",), 2 * 6 * pixels, 6),
    )


def test_one_task_of_two_leaves_its_head_and_all_streams_up_to_the_last_fusion() -> None:
    alone = {subset.tasks: subset for subset in subsets(costs(two_tasks(), (8, 10)), ("segmentation", "normals"))}

    assert set(alone) == {("segmentation",), ("normals",)}
    assert alone["segmentation",].flops == 2 * 80 * (6 + 6 + 8 + 10)
    assert alone["normals",].parameters == 1 + 6 + 6 + 8 + 6
    assert alone["normals",].flops_share == pytest.approx((6 + 6 + 8 + 6) / (6 + 6 + 8 + 8 + 10 + 6))


def test_a_weight_that_two_tasks_read_is_counted_once_and_needed_by_both() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], [task], name=f"heads.{task}.conv/Conv") for task in ("a", "b")]
    model = small(nodes, {"w": np.ones((2, 3, 1, 1), np.float32)}, dict.fromkeys("ab", TensorProto.FLOAT))

    found = costs(model, (8, 10))

    assert sum(cost.parameters for cost in found) == 6 + 1
    assert [cost.needed_by for cost in found if cost.parameters == 6] == [("a", "b")]


@pytest.mark.parametrize(("form", "tasks"), [("vgg", 2), ("resnet", 3), ("cross-stitch", 5)])
def test_parts_sum_up_to_the_whole_graph(form: str, tasks: int) -> None:
    model = exported(form, tasks=tasks, size_hw=SIZE)

    found = costs(model, SIZE)

    assert sum(cost.flops for cost in found) == count_flops(model, SIZE)
    assert sum(cost.parameters for cost in found) == float_numbers(model)
    assert all(cost.part != "network" for cost in found)


@pytest.mark.parametrize("form_of", ["TensorRT", "CPU"])
def test_a_quantised_graph_costs_what_the_float_one_does(form_of: str) -> None:
    assert costs(quantised("resnet 18", form_of=form_of), SIZE) == costs(exported("resnet 18"), SIZE)


def test_more_than_four_tasks_are_told_alone_and_all_but_one() -> None:
    names = ("a", "b", "c", "d", "e")
    found = [Cost("heads", name, (name,), 10, 1) for name in names]

    told = [subset.tasks for subset in subsets(found, names)]

    assert told[:5] == [(name,) for name in names]
    assert [set(names) - set(tasks) for tasks in told[5:]] == [{"e"}, {"d"}, {"c"}, {"b"}, {"a"}]
    assert len(subsets(found[:4], names[:4])) == 14


@pytest.mark.parametrize(
    ("fusion", "shortcut", "count"),
    [("nddr conv-bn-relu", "per_task", 3), ("nddr bn-conv", "none", 2), ("none", "none", 2)],
)
def test_what_a_subset_leaves_is_what_an_export_of_it_writes(
    fusion: str, shortcut: str, count: int, tmp_path: Path
) -> None:
    from export_networks import DENSE, config, network_of

    network = network_of(config("resnet18", fusion, shortcut=shortcut), DENSE[:count])
    whole = written(network, DENSE[:count], tmp_path)
    names = [task.name for task in DENSE[:count]]
    told = {subset.tasks: subset for subset in subsets(costs(whole, SIZE), names)}

    for chosen in (DENSE[:1], DENSE[1:count]):
        part = written(network, chosen, tmp_path)
        subset = told[tuple(task.name for task in chosen)]
        assert subset.flops == count_flops(part, SIZE)
        assert subset.parameters == float_numbers(part)


def written(network: Any, tasks: Sequence[Task], folder: Path) -> onnx.ModelProto:
    """What nddr-export writes of a network for these tasks; its parity is for the tests of export."""
    import torch

    from nddr_deploy.export.fold import fold_batchnorm
    from nddr_deploy.export.model import ExportedModel
    from nddr_deploy.export.to_onnx import to_onnx

    manifest = Manifest(tasks=tuple(tasks), size_hw=SIZE, opset=17)
    example = torch.from_numpy(probe_images(SIZE, 1))
    folded, _ = fold_batchnorm(ExportedModel(network, manifest), [example])
    to_onnx(folded, manifest, folder / "model.onnx", example)
    return onnx.load(folder / "model.onnx")
