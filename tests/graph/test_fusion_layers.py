from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from fusion_subjects import TASKS, joined
from graph_subjects import exported, quantised, ranges_of, small
from onnx import helper

from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.fp16 import to_fp16
from nddr_deploy.graph.fusion_layers import FusionLayer, fusion_layers

RNG = np.random.default_rng(0)


def matrix(*shape: int) -> Any:
    return RNG.normal(size=(*shape, 1, 1)).astype(np.float32)


def without_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """As other exporters write it: numbers."""
    tensors: dict[str, str] = {}
    outputs = {value.name for value in model.graph.output}
    for number, node in enumerate(model.graph.node):
        node.name = f"node_{number}"
        tensors |= {name: f"t{number}" for name in node.output if name not in outputs}
        node.input[:] = [tensors.get(name, name) for name in node.input]
        node.output[:] = [tensors.get(name, name) for name in node.output]
    return model


@pytest.mark.parametrize(
    ("form", "count"), [("vgg", 2), ("resnet", 2), ("resnet 18", 3), ("alexnet", 2), ("low-level features", 2)]
)
def test_every_stage_has_its_nddr_layer_and_shortcuts_and_heads_have_none(form: str, count: int) -> None:
    model = exported(form, tasks=count)

    found = fusion_layers(model)

    outputs = [value.name for value in model.graph.output]
    assert [layer.name for layer in found] == [f"fusions.{number}" for number in range(len(found))]
    assert len(found) in (4, 5)  # stages of these backbones
    for layer in found:
        assert [stream.task for stream in layer.streams] == outputs
        assert layer.convolutions == {task: f"{layer.name}.layers.{task}.conv/Conv" for task in outputs}
        assert layer.between == ()


def test_streams_lie_side_by_side_in_the_concat() -> None:
    layer, *_ = fusion_layers(joined((1.0, 1.0, 1.0), channels=5))

    assert [(stream.first, stream.channels) for stream in layer.streams] == [(0, 5), (5, 5), (10, 5)]
    assert [stream.columns for stream in layer.streams] == [slice(0, 5), slice(5, 10), slice(10, 15)]
    assert [stream.tensor for stream in layer.streams] == [f"stages.0.{task}.conv/Relu" for task in TASKS]
    assert layer.concat == layer.tensor == "stages.0.segmentation.conv/Concat"


def test_a_one_sided_layer_has_one_convolution_and_all_streams() -> None:
    found = fusion_layers(exported("resnet 18, one-sided", tasks=3))

    assert len(found) == 5
    for layer in found:
        assert [stream.task for stream in layer.streams] == list(TASKS)
        assert list(layer.convolutions) == ["normals"]


def test_an_order_of_its_own_for_each_task_is_a_layer_for_each_task_of_one_name() -> None:
    first, second, third, *rest = fusion_layers(exported("vgg, own features first", tasks=3))

    assert {first.name, second.name, third.name} == {"fusions.0"}
    assert [list(layer.convolutions) for layer in (first, second, third)] == [[task] for task in TASKS]
    assert [stream.task for stream in second.streams] == ["normals", "segmentation", "depth"]
    assert len(rest) == 3 * 4


@pytest.mark.parametrize("form", ["cross-stitch", "sluice", "single"])
def test_networks_without_nddr_have_no_such_layer(form: str) -> None:
    assert fusion_layers(exported(form)) == ()


def test_what_could_not_be_folded_is_named() -> None:
    (layer,) = fusion_layers(joined((1.0, 0.1), between=["Mul", "Add", "Relu"]))

    assert layer.between == ("between_0/Mul", "between_1/Add", "between_2/Relu")
    assert list(layer.convolutions) == ["segmentation", "normals"]


@pytest.mark.parametrize("form_of", ["TensorRT", "CPU"])
def test_layers_are_found_between_quantisations(form_of: str) -> None:
    plain = fusion_layers(exported())

    found = fusion_layers(quantised(form_of=form_of))

    assert [layer.convolutions for layer in found] == [layer.convolutions for layer in plain]
    assert [[stream.task for stream in layer.streams] for layer in found] == [["segmentation", "normals"]] * 5
    assert all("Quantize" in layer.between[0] for layer in found)


def test_layers_are_found_in_fp16() -> None:
    model = exported()
    half = to_fp16(model, ranges_of(model, [probe_images((65, 97), 1)])).model

    assert [layer.convolutions for layer in fusion_layers(half)] == [
        layer.convolutions for layer in fusion_layers(model)
    ]


@pytest.mark.parametrize("count", [2, 3])
def test_without_names_it_is_as_many_square_blocks_as_streams(count: int) -> None:
    model = joined([1.0] * count)
    (expected,) = fusion_layers(model)

    (found,) = fusion_layers(without_names(model))

    numbers = [f"stream{number}" for number in range(count)]
    assert [stream.task for stream in found.streams] == list(found.convolutions) == numbers
    assert [stream.columns for stream in found.streams] == [stream.columns for stream in expected.streams]
    assert found.name == found.concat


@pytest.mark.parametrize("name", ["stages.1.{}.conv/Conv", "heads.{}.project/Conv", "shortcut.layers.{}.conv/Conv"])
def test_names_that_say_something_else_count_for_more_than_shapes(name: str) -> None:
    model = joined((1.0, 1.0))
    for node in model.graph.node:
        if node.name.startswith("fusions.0.layers.") and node.op_type == "Conv":
            node.name = name.format(node.name.split(".")[3])

    assert fusion_layers(model) == ()


def test_without_names_a_concat_over_stages_is_no_layer() -> None:
    # two stages of equal width, and two convolutions back to it: only that one is made from the other tells
    model = small(
        [
            helper.make_node("Conv", ["x", "w1"], ["early"]),
            helper.make_node("Relu", ["early"], ["stage1"]),
            helper.make_node("Conv", ["stage1", "w2"], ["stage2"]),
            helper.make_node("Concat", ["stage1", "stage2"], ["both"], axis=1),
            helper.make_node("Conv", ["both", "w3"], ["y"]),
            helper.make_node("Conv", ["both", "w4"], ["z"]),
        ],
        {"w1": matrix(4, 3), "w2": matrix(4, 4), "w3": matrix(4, 8), "w4": matrix(4, 8)},
        {"y": 1, "z": 1},
    )

    assert fusion_layers(model) == ()


@pytest.mark.parametrize(
    ("widths", "outputs", "axis"),
    [((4, 6), (5, 5), 1), ((4, 4), (4,), 1), ((4, 4), (4, 6), 1), ((4, 4), (4, 4, 4), 1)],
    ids=["parts of two widths", "one reader, as in an ASPP", "results of two widths", "more readers than parts"],
)
def test_without_names_other_concats_are_no_layers(
    widths: tuple[int, int], outputs: tuple[int, ...], axis: int
) -> None:
    parts = [helper.make_node("Conv", ["x", f"w{n}"], [f"part{n}"]) for n in range(2)]
    readers = [helper.make_node("Conv", ["both", f"v{n}"], [f"y{n}"]) for n in range(len(outputs))]
    weights = {f"w{n}": matrix(width, 3) for n, width in enumerate(widths)}
    weights |= {f"v{n}": matrix(width, sum(widths)) for n, width in enumerate(outputs)}
    join = helper.make_node("Concat", ["part0", "part1"], ["both"], axis=axis)

    model = small([*parts, join, *readers], weights, {f"y{n}": 1 for n in range(len(outputs))})

    assert fusion_layers(model) == ()


def test_a_concat_that_something_else_reads_is_no_layer() -> None:
    model = joined((1.0, 1.0))
    node = helper.make_node("Sigmoid", ["stages.0.segmentation.conv/Concat"], ["more"], name="more")
    model.graph.node.append(node)
    model.graph.output.append(helper.make_tensor_value_info("more", 1, None))

    assert fusion_layers(model) == ()


def test_the_model_is_left_as_it_was() -> None:
    model = exported()
    before = model.SerializeToString()

    fusion_layers(model)

    assert model.SerializeToString() == before


def test_open_extents_do_not_matter() -> None:
    def plain(layer: FusionLayer) -> FusionLayer:
        return replace(layer, convolutions=dict(layer.convolutions))

    fixed, dynamic = exported("resnet 18"), exported("resnet 18", dynamic=("batch", "size"))

    assert [plain(layer) for layer in fusion_layers(dynamic)] == [plain(layer) for layer in fusion_layers(fixed)]
