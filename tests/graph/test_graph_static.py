"""Filling in open extents: the graph is then as static as one that was exported so, and computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graph_subjects import exported, run, small
from onnx import TensorProto, helper

from nddr_deploy.errors import ConfigError, ModelFileError, UnsupportedError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.inference import infer, skeleton, tensor_shapes
from nddr_deploy.graph.metadata import manifest_of
from nddr_deploy.graph.static import fix_input

OPEN = ("batch", "size")
FORMS = [
    ("vgg", "raw"),
    ("vgg, padded as TensorFlow pads", "decoded"),
    ("resnet", "decoded"),
    ("alexnet", "decoded"),
]


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    return tensor_shapes(infer(skeleton(model)))


def declared(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize(("form", "outputs"), FORMS)
@pytest.mark.parametrize(("batch", "size_hw"), [(1, (131, 97)), (3, (96, 128))])
def test_every_shape_is_known_that_a_plain_export_of_that_size_knows(
    form: str, outputs: str, batch: int, size_hw: tuple[int, int]
) -> None:
    tasks = 3 if form == "alexnet" else 2
    # The open one was traced at another size, so nothing can be right by chance.
    model = exported(form, tasks=tasks, size_hw=(140, 150), dynamic=OPEN, outputs=outputs)
    plain = exported(form, tasks=tasks, size_hw=size_hw, batch=batch, outputs=outputs)

    fixed = fix_input(model, batch=batch, size_hw=size_hw)

    onnx.checker.check_model(fixed, full_check=True)
    found, expected = shapes(fixed), shapes(plain)
    assert not [name for name, shape in found.items() if None in shape]
    layers = [node.output[0] for node in plain.graph.node if node.op_type in ("Conv", "Resize", "MaxPool", "Gemm")]
    assert [name for name in layers if name in found and found[name] != expected[name]] == []
    assert sum(name in found for name in layers) >= len(layers) - 4  # a size that was not even needs no Resize
    assert [declared(value) for value in fixed.graph.output] == [declared(value) for value in plain.graph.output]
    kinds = {node.op_type for node in fixed.graph.node}
    assert not kinds & {"Shape", "Mod"}  # what was computed from the size is a constant


@pytest.mark.parametrize(("form", "outputs"), FORMS)
def test_no_output_changes(form: str, outputs: str) -> None:
    model = exported(form, size_hw=(140, 150), dynamic=OPEN, outputs=outputs)
    images = probe_images((131, 99), 2)

    found = run(fix_input(model, batch=2, size_hw=(131, 99)))(images)

    for name, value in run(model)(images).items():
        # The same operations: but for the order in which a kernel chosen for the size adds up.
        np.testing.assert_allclose(found[name].astype(float), value, atol=1e-4 * max(np.abs(value).max(), 1e-3))


def test_the_argument_stays_and_the_manifest_follows() -> None:
    model = exported(dynamic=OPEN, size_hw=(140, 150))
    before = model.SerializeToString()

    fixed = manifest_of(fix_input(model, batch=4, size_hw=(64, 96)), source="fixed")

    assert model.SerializeToString() == before
    assert (fixed.dynamic, fixed.batch, fixed.size_hw) == ((), 4, (64, 96))
    half = manifest_of(fix_input(model, size_hw=(64, 96)), source="half")
    assert (half.dynamic, half.batch, half.size_hw) == (("batch",), 1, (64, 96))
    assert fixed.tasks == manifest_of(model, source="model").tasks


@pytest.mark.parametrize(
    ("asked", "images", "output"),
    [
        ({"batch": 2}, [2, "height", "width", 3], [2, 5, "segmentation_height", "segmentation_width"]),
        ({"size_hw": (97, 131)}, ["batch", 97, 131, 3], ["batch", 5, 13, 17]),
        ({}, ["batch", "height", "width", 3], ["batch", 5, "segmentation_height", "segmentation_width"]),
    ],
    ids=str,
)
def test_what_is_not_asked_for_stays_open_under_its_name(
    asked: dict[str, Any], images: list[int | str], output: list[int | str]
) -> None:
    model = exported("vgg, padded as TensorFlow pads", dynamic=OPEN, size_hw=(140, 150))

    fixed = fix_input(model, **asked)

    assert declared(fixed.graph.input[0]) == images
    assert declared(fixed.graph.output[0]) == output


def test_an_open_batch_leaves_no_open_height_or_width_behind() -> None:
    model = exported("vgg, padded as TensorFlow pads", dynamic=OPEN, size_hw=(140, 150))

    found = shapes(fix_input(model, size_hw=(97, 131)))

    assert not [name for name, shape in found.items() if None in shape[1:]]


def test_shapes_that_somebody_else_wrote_into_the_file_do_not_survive() -> None:
    model = exported(dynamic=OPEN, size_hw=(140, 150))
    name = next(node.output[0] for node in model.graph.node if node.op_type == "Conv")
    model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 70, 75]))

    fixed = fix_input(model, batch=1, size_hw=(64, 96))

    onnx.checker.check_model(fixed, full_check=True)  # which compares what is written with what is inferred
    assert shapes(fixed)[name][2:] == (32, 48)


def test_what_is_fixed_already_may_be_asked_for_again_but_not_changed() -> None:
    model = exported(size_hw=(65, 97), batch=1)

    assert declared(fix_input(model, batch=1, size_hw=(65, 97)).graph.input[0]) == [1, 65, 97, 3]
    with pytest.raises(ConfigError, match=r"batch: 2 was asked for, but .* exported with 1.*--dynamic batch"):
        fix_input(model, batch=2)
    with pytest.raises(ConfigError, match=r"width: 96 was asked for, but .* with 97.*--dynamic size"):
        fix_input(model, size_hw=(65, 96))


def test_no_extent_is_below_one() -> None:
    with pytest.raises(ConfigError, match="height: 0 is no extent of `images`; give 1 or more"):
        fix_input(exported(dynamic=OPEN, size_hw=(140, 150)), size_hw=(0, 96))


def test_a_size_that_the_graph_cannot_have_is_refused() -> None:
    nodes = [helper.make_node("Add", ["x", "one per place"], ["y"])]
    model = small(nodes, {"one per place": np.ones((3, 8, 10), np.float32)}, images=("batch", "height", "width", 3))

    with pytest.raises(ModelFileError, match="contradict each other"):
        fix_input(model, batch=1, size_hw=(9, 10))


def test_a_graph_without_images_or_with_branches_is_refused() -> None:
    foreign = exported()
    foreign.graph.input[0].name = "pixels"
    with pytest.raises(ModelFileError, match=r"whose input is `images` \(N, H, W, 3\); this one takes pixels"):
        fix_input(foreign, batch=1)

    inner = helper.make_graph([], "inner", [], [])
    branch = helper.make_node("If", ["condition"], ["y"], name="choice", then_branch=inner, else_branch=inner)
    with pytest.raises(UnsupportedError, match="If node 'choice' holds a graph of its own"):
        fix_input(small([branch], {"condition": np.bool_(True)}), batch=1)
