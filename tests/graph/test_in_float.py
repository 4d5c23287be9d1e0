"""A quantised or FP16 graph, read as the float one that it stands for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graph_subjects import exported, quantised, ranges_of, run, small
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.errors import ModelFileError, UnsupportedError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.fp16 import to_fp16
from nddr_deploy.graph.in_float import in_float

IMAGES = probe_images((65, 97), 1)


def test_a_float_graph_is_left_alone() -> None:
    model = exported("resnet 18")

    assert in_float(model) is model


@pytest.mark.parametrize("form_of", ["TensorRT", "CPU"])
def test_a_quantised_graph_computes_nearly_what_it_was_made_from(form_of: str) -> None:
    quantised_model = quantised("resnet 18", form_of=form_of)
    before = quantised_model.SerializeToString()

    plain = in_float(quantised_model)

    assert {"QuantizeLinear", "DequantizeLinear"}.isdisjoint(node.op_type for node in plain.graph.node)
    expected, found = run(exported("resnet 18"))(IMAGES), run(plain)(IMAGES)
    for task, values in expected.items():  # only the weights' own rounding to 8 bits is left: a few per cent at the end
        assert np.abs(found[task] - values).max() < 0.05 * np.ptp(values)
    assert quantised_model.SerializeToString() == before


def test_an_fp16_graph_computes_nearly_what_it_was_made_from() -> None:
    model = exported("resnet 18")

    plain = in_float(to_fp16(model, ranges_of(model, [IMAGES])).model)

    assert all(weight.data_type != TensorProto.FLOAT16 for weight in plain.graph.initializer)
    expected, found = run(model)(IMAGES), run(plain)(IMAGES)
    for task, values in expected.items():
        assert np.abs(found[task] - values).max() < 2e-3 * np.ptp(values)  # weights of 11 bits


def test_a_weight_with_a_scale_per_channel_is_spelled_out() -> None:
    stored = np.int8([[[[10]], [[-20]], [[0]]], [[[4]], [[6]], [[8]]]])
    model = small(
        [
            helper.make_node("DequantizeLinear", ["stored", "scale", "zero"], ["w"], axis=0),
            helper.make_node("Conv", ["x", "w"], ["y"]),
        ],
        {"stored": stored, "scale": np.float32([0.5, 0.25]), "zero": np.int8([0, 2])},
    )

    weights = {weight.name: numpy_helper.to_array(weight) for weight in in_float(model).graph.initializer}

    assert weights["w"][:, :, 0, 0].tolist() == [[5.0, -10.0, 0.0], [0.5, 1.0, 1.5]]
    assert "stored" not in weights


def test_an_output_that_is_quantised_keeps_its_name() -> None:
    model = small(
        [
            helper.make_node("Relu", ["x"], ["positive"]),
            helper.make_node("QuantizeLinear", ["positive", "scale", "zero"], ["stored"]),
            helper.make_node("DequantizeLinear", ["stored", "scale", "zero"], ["y"]),
        ],
        {"scale": np.float32(0.01), "zero": np.uint8(0)},
    )
    images = probe_images((8, 10), 1)

    plain = in_float(model)

    assert run(plain)(images)["y"] == pytest.approx(images.transpose(0, 3, 1, 2) / np.float32(255), abs=1e-6)


def test_a_computed_scale_is_refused() -> None:
    model = small(
        [
            helper.make_node("Relu", ["scale"], ["computed"]),
            helper.make_node("DequantizeLinear", ["stored", "computed"], ["w"], name="weights"),
            helper.make_node("Conv", ["x", "w"], ["y"]),
        ],
        {"stored": np.ones((1, 3, 1, 1), np.int8), "scale": np.float32(0.5)},
    )
    onnx.checker.check_model(model)

    with pytest.raises(ModelFileError, match="'computed' of DequantizeLinear node 'weights' is computed"):
        in_float(model)


def test_operations_on_integers_stand_for_no_float_graph() -> None:
    model = small([helper.make_node("ConvInteger", ["x", "w"], ["y"])], {"w": np.ones((1, 1, 1, 1), np.uint8)})

    with pytest.raises(UnsupportedError, match=r"in integers itself \(ConvInteger\)"):
        in_float(model)
