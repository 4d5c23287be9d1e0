"""A graph with Q/DQ nodes in FP16: the integers stay, everything between them and the scales is FP16.

Rounding to FP16 in front of a QuantizeLinear moves some values to the next integer, so outputs are compared on average,
and by their distance from the network that was quantised: it may not grow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graph_subjects import casts, conv, exported, quantised, ranges_of, run, run_rounding, small
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.errors import UnsupportedError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.fp16 import to_fp16
from nddr_deploy.graph.inference import tensor_types
from nddr_deploy.graph.metadata import manifest_of
from nddr_deploy.graph.ranges import weight_ranges

QUANTISING = ("QuantizeLinear", "DequantizeLinear")
IMAGES = probe_images((8, 10), 2)


@pytest.mark.parametrize(("form", "tasks", "opset"), [("vgg", 2, 17), ("resnet 18", 3, 17), ("resnet 18", 2, 19)])
def test_a_quantised_network_in_fp16_is_as_near_to_fp32_as_before(form: str, tasks: int, opset: int) -> None:
    model = quantised(form, tasks=tasks, opset=opset)
    before = model.SerializeToString()
    images = np.random.default_rng(9).integers(0, 256, (1, 65, 97, 3), dtype=np.uint8)  # not calibrated on

    half = to_fp16(model, ranges_of(model, [images])).model

    assert model.SerializeToString() == before
    onnx.checker.check_model(half, full_check=True)
    truth = run(exported(form, tasks=tasks, opset=opset))(images)
    plain = run(model, plainly=True)(images)
    for found in (run(half)(images), run_rounding(half)(images)):
        for name, value in truth.items():
            size = np.ptp(value)
            assert np.abs(found[name] - plain[name]).mean() <= 0.02 * size  # two to three steps of 127
            own = np.abs(plain[name] - value).mean() / size
            assert np.abs(found[name] - value).mean() / size <= 1.2 * own + 1e-3


def test_scales_are_fp16_and_nothing_comes_between_a_pair_and_its_layer() -> None:
    model = quantised("vgg")

    half = to_fp16(model, ranges_of(model, [probe_images((65, 97), 1)]))

    types = tensor_types(half.model)
    assert half.kept == ()
    assert [entry.version for entry in half.model.opset_import] == [19]
    assert half.model.ir_version >= 9
    assert manifest_of(half.model, source="half").opset == 19
    makers = {name: node for node in half.model.graph.node for name in node.output}
    kinds = [node.op_type for node in half.model.graph.node]
    for kind in QUANTISING:
        assert kinds.count(kind) == [node.op_type for node in model.graph.node].count(kind)
    for node in half.model.graph.node:
        if node.op_type in QUANTISING:
            integers = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
            floats = node.input[0] if node.op_type == "QuantizeLinear" else node.output[0]
            assert types[integers] == types[node.input[2]] == TensorProto.INT8
            assert types[floats] == types[node.input[1]] == TensorProto.FLOAT16
        if node.op_type == "Conv" and not node.name.startswith("heads.normals.4"):
            assert [makers[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
    first, into, *out = casts(half.model)
    assert (first.input[0], into.input[0]) == ("images", "images/Mul")
    assert [cast.output[0] for cast in out] == ["segmentation", "normals"]


def pair(name: str, source: str, scale: str, zero: str = "zero") -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [source, scale, zero], [f"{name}.q"]),
        helper.make_node("DequantizeLinear", [f"{name}.q", scale, zero], [name]),
    ]


def two_layers(weight_scale: Any, *, activation_scale: float = 0.01) -> onnx.ModelProto:
    """x -> Q/DQ -> Conv `first` of float weights -> Relu -> Q/DQ -> Convs `left` and `right` of int8 weights -> y."""
    rng = np.random.default_rng(3)
    nodes = [
        *pair("x.dq", "x", "x.scale"),
        *pair("first.weight.dq", "first.weight", "x.scale"),
        conv("first", "x.dq", "first.weight.dq"),
        helper.make_node("Relu", ["first"], ["relu"]),
        *pair("relu.dq", "relu", "relu.scale"),
        helper.make_node("DequantizeLinear", ["left.int8", "left.scale", "left.zero"], ["left.weight"], axis=0),
        helper.make_node("DequantizeLinear", ["right.int8", "right.scale", "zero"], ["right.weight"]),
        conv("left", "relu.dq", "left.weight"),
        conv("right", "relu.dq", "right.weight"),
        helper.make_node("Concat", ["left", "right"], ["both"], axis=1),
        helper.make_node("Relu", ["both"], ["again"]),
        conv("y", "again", "last.weight"),
    ]
    scale = np.asarray(weight_scale, np.float32)
    weights = {
        "x.scale": np.float32(1 / 127),
        "relu.scale": np.float32(activation_scale),
        "zero": np.int8(0),
        "first.weight": rng.uniform(-1, 1, (4, 3, 1, 1)).astype(np.float32),
        "left.int8": rng.integers(-127, 128, (2, 4, 1, 1), dtype=np.int8),
        "left.scale": scale,
        "left.zero": np.zeros(scale.shape, np.int8),
        "right.int8": rng.integers(-127, 128, (2, 4, 1, 1), dtype=np.int8),
        "right.scale": np.float32(0.01),
        "last.weight": rng.normal(0, 1, (2, 4, 1, 1)).astype(np.float32),
    }
    return small(nodes, weights, opset=19)


def test_integer_weights_stay_integers() -> None:
    model = two_layers([0.01, 0.02])

    half = to_fp16(model, ranges_of(model, [IMAGES[:1]]))

    assert half.kept == ()
    weights = {weight.name: weight for weight in half.model.graph.initializer}
    originals = {weight.name: weight for weight in model.graph.initializer}
    for name in ("left.int8", "right.int8", "zero", "left.zero"):
        assert weights[name] == originals[name]
    assert weights["left.scale"].data_type == TensorProto.FLOAT16
    found, expected = run_rounding(half.model)(IMAGES[1:])["y"], run(model, plainly=True)(IMAGES[1:])["y"]
    assert np.abs(found - expected).max() <= 0.02 * np.ptp(expected)  # two steps of 127


@pytest.mark.parametrize(
    ("scale", "reason"),
    [
        ([0.01, 2e-8], "the scale 'left.scale' holds 2e-08, which vanishes in FP16"),
        ([0.01, 1e5], "the scale 'left.scale' reaches 1e+05, more than FP16 holds"),
        (3.1e-7, "the scale 'left.scale' loses 3.9% to rounding in FP16"),
    ],
    ids=["vanishes", "overflows", "loses bits"],
)
def test_a_scale_that_fp16_cannot_hold_keeps_its_layer_in_fp32_and_the_pair_beside_it(scale: Any, reason: str) -> None:
    model = two_layers(scale)
    ranges = dict.fromkeys(tensor_types(model), 1.0)

    half = to_fp16(model, ranges)

    assert half.kept[0].node == "left"
    assert half.kept[0].reason.startswith(reason)
    assert {entry.node for entry in half.kept} == {"left"}
    makers = {name: node for node in half.model.graph.node for name in node.output}
    types = tensor_types(half.model)
    nodes = {node.name: node for node in half.model.graph.node}
    for layer, kind in (("left", TensorProto.FLOAT), ("right", TensorProto.FLOAT16)):
        for name in nodes[layer].input:
            assert makers[name].op_type == "DequantizeLinear"  # not a Cast, which would part the pair from its layer
            assert types[name] == types[makers[name].input[1]] == kind
    # Both layers read one integer tensor; it is dequantised once per type.
    assert [makers[nodes[layer].input[0]].input[0] for layer in ("left", "right")] == ["relu.dq.q"] * 2


def test_a_dequantised_tensor_needs_no_range_of_its_own() -> None:
    """Quantisers add them after a scan; their scale bounds them."""
    model = two_layers(0.01)
    ranges = ranges_of(model, [IMAGES[:1]])
    for name in ("x.dq", "relu.dq", "left.weight", "right.weight", "first.weight.dq"):
        del ranges[name]

    assert to_fp16(model, ranges).kept == ()
    loud = two_layers(0.01, activation_scale=300.0)  # 128 steps of it: 38400
    kept = {entry.node for entry in to_fp16(loud, {**ranges, **weight_ranges(loud)}).kept}
    assert {"left", "right"} <= kept


def test_a_graph_that_cannot_be_brought_to_opset_19_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
        raise RuntimeError("No Adapter From Version $18 for Twist")

    model = quantised("resnet 18")
    monkeypatch.setattr(onnx.version_converter, "convert_version", fail)

    with pytest.raises(UnsupportedError, match=r"of opset 17 cannot be converted \(No Adapter .* with --opset 19"):
        to_fp16(model, {})


def test_a_pair_around_a_weight_is_fp16_like_the_weight() -> None:
    model = two_layers(0.01)

    half = to_fp16(model, ranges_of(model, [IMAGES[:1]])).model

    weights = {weight.name: weight for weight in half.graph.initializer}
    assert numpy_helper.to_array(weights["first.weight"]).dtype == np.float16
    assert [cast.name for cast in casts(half) if "weight" in cast.name] == []
