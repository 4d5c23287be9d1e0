"""Merging an NDDR layer's convolutions: fewer nodes, the same outputs, and nothing else touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graph_subjects import exported, quantised, run, small
from onnx import helper

from nddr_deploy.errors import UnsupportedError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.merge_convolutions import merge_convolutions

RNG = np.random.default_rng(0)


def operations(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def two_convolutions(shapes: tuple[Any, Any] = ((4, 6, 1, 1), (5, 6, 1, 1)), **attributes: Any) -> onnx.ModelProto:
    """y, z = two convolutions of x joined with itself."""
    return small(
        [
            helper.make_node("Concat", ["x", "x"], ["joined"], axis=1),
            helper.make_node("Conv", ["joined", "first"], ["y"], **attributes),
            helper.make_node("Conv", ["joined", "second"], ["z"]),
        ],
        {
            name: RNG.normal(size=shape).astype(np.float32)
            for name, shape in zip(("first", "second"), shapes, strict=True)
        },
        {"y": 1, "z": 1},
    )


@pytest.mark.parametrize("form", ["resnet 18", "vgg"])
def test_the_convolutions_of_every_nddr_layer_become_one_and_outputs_stay_equal(form: str) -> None:
    model = exported(form)
    image = probe_images((65, 97), 1)

    merged = merge_convolutions(model)

    onnx.checker.check_model(merged, full_check=True)
    layers = operations(model).count("Conv") - operations(merged).count("Conv")
    assert layers == operations(merged).count("Split") == 5  # one per stage, of two streams each
    for name, expected in run(model)(image).items():
        found = run(merged)(image)[name]
        # sums of up to a few hundred products in another order: a few roundings of float32
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.ptp(expected), rtol=0)


def test_three_streams_are_merged_into_one_convolution_per_layer() -> None:
    model = exported(tasks=3)

    merged = merge_convolutions(model)

    assert operations(model).count("Conv") - operations(merged).count("Conv") == 2 * 5
    split = next(node for node in merged.graph.node if node.op_type == "Split")
    assert len(split.output) == 3


def test_rows_of_different_number_go_back_to_their_own_tensors() -> None:
    model = two_convolutions()
    image = probe_images((8, 10), 1)

    merged = merge_convolutions(model)

    assert operations(merged).count("Conv") == 1
    expected, found = run(model)(image), run(merged)(image)
    assert [found[name].shape[1] for name in ("y", "z")] == [4, 5]
    for name in ("y", "z"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)  # values are of order one


def test_the_model_itself_is_left_as_it_was_and_its_weights_are_not_kept_twice() -> None:
    model = exported()
    before = model.SerializeToString()

    merged = merge_convolutions(model)

    assert model.SerializeToString() == before
    assert merged.ByteSize() < 1.02 * model.ByteSize()
    assert list(merged.metadata_props) == list(model.metadata_props)


@pytest.mark.parametrize(
    "change",
    [
        {"shapes": ((4, 6, 3, 3), (4, 6, 1, 1))},
        {"strides": [2, 2]},
        {"pads": [1, 1, 1, 1]},
        {"shapes": ((4, 3, 1, 1), (4, 6, 1, 1)), "group": 2},
        {"auto_pad": "SAME_UPPER"},
    ],
)
def test_convolutions_that_do_something_else_are_left_alone(change: dict[str, Any]) -> None:
    model = two_convolutions(**change)

    assert merge_convolutions(model).graph == model.graph


def test_only_what_shares_a_concat_is_merged() -> None:
    model = small(
        [
            helper.make_node("Conv", ["x", "first"], ["y"]),
            helper.make_node("Conv", ["x", "second"], ["z"]),
        ],
        {name: RNG.normal(size=(4, 3, 1, 1)).astype(np.float32) for name in ("first", "second")},
        {"y": 1, "z": 1},
    )

    assert merge_convolutions(model).graph == model.graph


def test_quantised_convolutions_are_left_alone() -> None:
    model = quantised()

    assert operations(merge_convolutions(model)) == operations(model)


def test_an_opset_whose_split_is_another_is_refused() -> None:
    model = two_convolutions()
    model.opset_import[0].version = 12

    with pytest.raises(UnsupportedError, match="opset 12; expected 13"):
        merge_convolutions(model)
