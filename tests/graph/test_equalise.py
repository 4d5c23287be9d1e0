from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from fusion_subjects import (
    in_int8,
    joined,
    named_weights,
    outputs_of,
    pictures,
    shrunk,
    size_of,
    sqnr_db,
    stream_ranges,
    stream_tensors,
    trained,
)
from graph_subjects import exported, quantised, run
from onnx import helper

from nddr_deploy.data import open_dataset
from nddr_deploy.errors import InputError
from nddr_deploy.graph.calibration import Range, channel_ranges
from nddr_deploy.graph.equalise import EqualisedLayer, equalise_streams
from nddr_deploy.graph.fusion_layers import fusion_layers
from nddr_deploy.graph.lint_rule import Target
from nddr_deploy.graph.split_fusion import split_fusion
from nddr_deploy.tasks.base import Array

FP32 = 1e-5  # of an output's range: what the project promises; a weight is rounded once, so about 3e-7 is found
WEAK = 1 / 30
GAIN_DB = 6.0  # what the project promises; 17 to 25 dB are found here


def assert_equal_outputs(expected: dict[str, Array], found: dict[str, Array], tolerance: float = FP32) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=tolerance * np.ptp(values), rtol=0, err_msg=name)


def gains_db(
    plain: onnx.ModelProto, better: onnx.ModelProto, target: Target, calibration: list[Any], images: list[Any]
) -> dict[str, float]:
    """Task -> how much nearer to float32 its output is in int8."""
    expected = outputs_of(plain, images)
    before, after = (in_int8(model, target, calibration, images) for model in (plain, better))
    return {name: sqnr_db(values, after[name]) - sqnr_db(values, before[name]) for name, values in expected.items()}


# What it is for


@pytest.mark.parametrize("target", ["cpu", "tensorrt8"])
@pytest.mark.parametrize("scales", [(1.0, WEAK), (1.0, 0.5, WEAK)], ids=["two streams", "three streams"])
def test_a_stream_30_times_smaller_gains_more_than_6_db_in_int8(scales: tuple[float, ...], target: Target) -> None:
    model = joined(scales)
    images = pictures(size_of(model), 8)

    equalised = equalise_streams(model, stream_ranges(model, images[:4])).model

    assert_equal_outputs(outputs_of(model, images), outputs_of(equalised, images))
    gains = gains_db(model, equalised, target, images[:4], images[4:])
    weak = list(gains)[-1]
    assert gains[weak] > GAIN_DB
    assert min(gains.values()) > -6  # measured: -4 dB for the strong stream of three, of 38


@pytest.mark.parametrize(("weak", "target"), [("segmentation", "cpu"), ("normals", "tensorrt8")])
def test_a_trained_network_whose_one_stream_is_30_times_smaller_is_as_good_in_int8_as_it_was(
    weak: str, target: Target
) -> None:
    model, images = trained()
    rooms: Any = open_dataset("rooms", "train", size_hw=list(size_of(model)), count=12)
    calibration = [rooms[number].image[None] for number in range(len(rooms))]
    uneven = shrunk(model, weak, 30)
    assert_equal_outputs(outputs_of(model, images), outputs_of(uneven, images))

    report = equalise_streams(uneven, stream_ranges(uneven, calibration))

    assert all(layer.applied and layer.ratio_before > 15 and layer.ratio_after < 1.11 for layer in report.layers)
    assert_equal_outputs(outputs_of(uneven, images), outputs_of(report.model, images))
    gains = gains_db(uneven, report.model, target, calibration, images)
    assert min(gains.values()) > GAIN_DB  # both heads suffer: each stage joins the streams anew
    assert gains[weak] > 15
    split = gains_db(uneven, split_fusion(uneven), target, calibration, images)
    assert gains[weak] > split[weak] - 3  # the alternative, which costs a convolution per stream
    original = gains_db(uneven, model, target, calibration, images)
    assert gains[weak] > original[weak] - 3


# That it changes nothing else


@pytest.mark.parametrize(
    ("form", "count"),
    [
        ("vgg", 2),
        ("vgg, padded as TensorFlow pads", 2),
        ("resnet", 2),
        ("resnet 18", 3),
        ("alexnet", 2),
        ("low-level features", 2),
        ("resnet 18, one-sided", 3),
        ("vgg, own features first", 3),
    ],
)
def test_outputs_stay_equal_with_a_factor_of_its_own_for_every_channel(form: str, count: int) -> None:
    model = exported(form, tasks=count)
    images = pictures(size_of(model), 2)
    ranges = channel_ranges(model, stream_tensors(model), images, run)

    report = equalise_streams(model, ranges)

    onnx.checker.check_model(report.model, full_check=True)
    assert all(layer.applied for layer in report.layers), [str(layer) for layer in report.layers]
    assert_equal_outputs(outputs_of(model, images), outputs_of(report.model, images))


@pytest.mark.parametrize("form", ["resnet 18", "vgg"])
def test_powers_of_two_change_no_bit_of_the_outputs(form: str) -> None:
    model = shrunk(exported(form), "normals", 23.0)
    images = pictures(size_of(model), 2)

    report = equalise_streams(model, stream_ranges(model, images), powers_of_two=True)

    for layer in report.layers:
        assert np.log2(layer.factors["normals"]) == np.round(np.log2(layer.factors["normals"]))
        assert layer.ratio_after <= 2**0.5 * 1.0001 < layer.ratio_before
    expected = outputs_of(model, images)
    for name, values in outputs_of(report.model, images).items():
        np.testing.assert_array_equal(values, expected[name])


def test_the_reported_ranges_are_those_of_the_new_graph() -> None:
    model = shrunk(exported("resnet", tasks=2), "normals", 30)
    images = pictures(size_of(model), 2)

    report = equalise_streams(model, stream_ranges(model, images))

    found = stream_ranges(report.model, images)
    for layer, reported in zip(fusion_layers(report.model), report.layers, strict=True):
        peaks = [max(-found[stream.tensor].low, found[stream.tensor].high) for stream in layer.streams]
        assert max(peaks) / min(peaks) == pytest.approx(reported.ratio_after, rel=1e-4)
        assert reported.ratio_after < 1.11
    assert all(layer.ratio_before > 3 for layer in report.layers)


def test_open_extents_stay_open() -> None:
    model = exported("resnet 18", dynamic=("batch", "size"))
    images = [np.concatenate(pictures((71, 90), 2))]

    report = equalise_streams(model, stream_ranges(model, images))

    assert [value.type for value in report.model.graph.input] == [value.type for value in model.graph.input]
    assert any(layer.applied for layer in report.layers)
    assert_equal_outputs(outputs_of(model, images), outputs_of(report.model, images))


def test_the_model_is_left_as_it_was_and_names_and_manifest_are_kept() -> None:
    model = exported("resnet")
    before = model.SerializeToString()

    equalised = equalise_streams(model, stream_ranges(model, pictures(size_of(model), 1))).model

    assert model.SerializeToString() == before
    assert list(equalised.metadata_props) == list(model.metadata_props)
    assert [node.name for node in equalised.graph.node] == [node.name for node in model.graph.node]
    assert equalised.ByteSize() == pytest.approx(model.ByteSize(), rel=0.01)


# What is scaled, and by how much


def test_the_producer_takes_the_factor_and_the_columns_give_it_back() -> None:
    model = joined((4.0, 1.0), channels=5)
    strong, weak = stream_tensors(model)

    report = equalise_streams(model, {strong: Range(0, 8), weak: Range(-1, 2)})

    assert str(report.layers[0]) == "fusions.0: segmentation x 1, normals x 4; ranges 4.0:1 -> 1.0:1"
    before, after = named_weights(model), named_weights(report.model)
    expected = {name: np.ones(()) for name in before}
    expected["stages.0.normals.conv.weight"] = expected["stages.0.normals.conv.bias"] = np.array(4.0)
    columns = np.repeat([1.0, 0.25], 5)[:, None, None]
    expected |= {f"fusions.0.layers.{task}.conv.weight": columns for task in ("segmentation", "normals")}
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values * expected[name].astype(np.float32), err_msg=name)


def test_small_channels_are_raised_within_the_bound() -> None:
    model = joined((1.0, 1.0), channels=4)
    strong, weak = stream_tensors(model)
    zero = np.zeros(4)
    ranges = {strong: (zero, np.array([8.0, 4, 1, 8])), weak: (zero, np.array([2.0, 1, 0.01, 0]))}

    (layer,) = equalise_streams(model, ranges, channel_bound=4).layers

    np.testing.assert_allclose(layer.factors["segmentation"], [1, 2, 4, 1])
    np.testing.assert_allclose(layer.factors["normals"], [4, 8, 16, 16])  # one that is never active goes with its like


def test_a_residual_chain_has_one_factor_back_to_its_first_layer() -> None:
    model = shrunk(exported("resnet 18"), "normals", 30)
    tensors = stream_tensors(model)

    before = named_weights(model)
    after = named_weights(equalise_streams(model, stream_ranges(model, pictures(size_of(model), 1))).model)

    def changed(name: str) -> float:
        """What a weight was multiplied by, told from its largest value."""
        place = np.abs(before[name]).argmax()
        return float(after[name].flat[place] / before[name].flat[place])

    assert tensors[3].startswith("stages.1.normals")
    factor = changed("fusions.0.layers.normals.conv.bias")  # stage 1 has no layer before its first addition
    assert factor > 1.2
    for block in (0, 1):
        assert changed(f"stages.1.normals.layer1.{block}.conv2.weight") == pytest.approx(factor)
        assert changed(f"stages.1.normals.layer1.{block}.conv2.bias") == pytest.approx(factor)
        assert changed(f"stages.1.normals.layer1.{block}.conv1.weight") == pytest.approx(1 / factor)


def test_a_stream_that_passes_several_layers_has_one_factor_and_the_others_follow_it() -> None:
    model = exported("resnet 18, one-sided", tasks=3)
    ranges = {name: Range(0, 1 + place) for place, name in enumerate(stream_tensors(model))}

    first, second, *_ = equalise_streams(model, ranges).layers

    # stage 1 adds to what stage 0 made: for segmentation and depth, which no fusion changes between, that is one region
    assert first.factors["segmentation"] == second.factors["segmentation"] == pytest.approx((3 / 1 * 6 / 4) ** 0.5)
    assert first.factors["depth"] == second.factors["depth"] == 1
    assert first.factors["normals"] == pytest.approx(3 / 2)
    assert second.factors["normals"] == pytest.approx(max(6, 4 * second.factors["segmentation"][0]) / 5)


def test_weights_that_heads_share_are_told_apart_where_one_head_reads_a_scaled_stream() -> None:
    model = exported("vgg")  # one shortcut convolution for both tasks
    images = pictures(size_of(model), 1)
    names = [node.input[1] for node in model.graph.node if node.name.startswith("shortcut.") and node.op_type == "Conv"]
    assert len(set(names)) == 1 < len(names)
    ranges = {name: Range(0, 1 if ".normals." in name else 9) for name in stream_tensors(model)}

    report = equalise_streams(model, ranges)

    assert all(layer.factors["normals"] == pytest.approx(9) for layer in report.layers)
    assert_equal_outputs(outputs_of(model, images), outputs_of(report.model, images))


@pytest.mark.parametrize("between", [["Mul", "Add"], ["Add", "Relu", "Mul"], ["Sub", "Div"]])
def test_what_is_between_the_concat_and_its_convolutions_is_compensated(between: list[str]) -> None:
    model = joined((1.0, WEAK), between=between)
    images = pictures(size_of(model), 2)

    report = equalise_streams(model, stream_ranges(model, images))

    assert report.layers[0].factors["normals"] > 20
    assert_equal_outputs(outputs_of(model, images), outputs_of(report.model, images))


def test_batchnorm_before_and_behind_the_concat_is_compensated() -> None:
    rng = np.random.default_rng(5)
    names = ("scale", "shift", "mean", "variance")
    statistics = {name: rng.uniform(0.5, 2, size=16).astype(np.float32) for name in names}

    def normalised(source: str, result: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("BatchNormalization", [source, *names], [f"{result}/bn"], epsilon=0.01),
            helper.make_node("Relu", [f"{result}/bn"], [result]),
        ]

    def read(stream: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("BatchNormalization", [stream, *names], ["read/bn"], epsilon=0.01),
            helper.make_node("Sigmoid", ["read/bn"], ["more"]),
        ]

    model = joined((1.0, 1.0), activation=normalised, also_read=read, weights=statistics, outputs=["more"])
    images = pictures(size_of(model), 2)
    strong, weak = stream_tensors(model)

    report = equalise_streams(model, {strong: Range(0, 30), weak: Range(0, 1)})

    assert report.layers[0].factors["normals"] == pytest.approx(30)
    assert_equal_outputs(outputs_of(model, images), outputs_of(report.model, images))


def test_a_number_that_others_read_stays_a_number_for_them() -> None:
    def read(stream: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("Mul", [stream, "six"], ["product"]),
            helper.make_node("Clip", ["product", "zero", "six"], ["more"]),  # takes numbers without dimensions only
        ]

    model = joined((1.0, WEAK), also_read=read, weights=CONSTANTS, outputs=["more"])
    images = pictures(size_of(model), 2)

    report = equalise_streams(model, stream_ranges(model, images))

    assert report.layers[0].factors["normals"] > 20
    assert_equal_outputs(outputs_of(model, images), outputs_of(report.model, images))


@pytest.mark.parametrize(
    ("operation", "settings"),
    [
        ("LeakyRelu", {"alpha": 0.1}),
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("Identity", {}),
    ],
)
def test_a_factor_goes_through_what_keeps_scale(operation: str, settings: dict[str, Any]) -> None:
    def activation(source: str, result: str) -> list[onnx.NodeProto]:
        return [helper.make_node(operation, [source], [result], **settings)]

    model = joined((1.0, WEAK), activation=activation)
    images = pictures(size_of(model), 2)

    report = equalise_streams(model, stream_ranges(model, images))

    assert report.layers[0].applied
    assert report.layers[0].reason == ""
    assert_equal_outputs(outputs_of(model, images), outputs_of(report.model, images))


@pytest.mark.parametrize("group", [1, 4, 16])
def test_grouped_and_transposed_convolutions_that_read_a_stream_are_compensated(group: int) -> None:
    rng = np.random.default_rng(2)
    weights = {
        "grouped": rng.normal(size=(16, 16 // group, 3, 3)).astype(np.float32),
        "transposed": rng.normal(size=(16, 8 // min(group, 8), 2, 2)).astype(np.float32),
    }

    def read(stream: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("Conv", [stream, "grouped"], ["conv"], group=group),
            helper.make_node("ConvTranspose", [stream, "transposed"], ["wider"], group=min(group, 8), strides=[2, 2]),
        ]

    model = joined((1.0, WEAK), also_read=read, weights=weights, outputs=["conv", "wider"])
    images = pictures(size_of(model), 2)
    ranges = channel_ranges(model, stream_tensors(model), images, run)

    report = equalise_streams(model, ranges)

    assert report.layers[0].factors["normals"].size == 16
    assert_equal_outputs(outputs_of(model, images), outputs_of(report.model, images))


# Where it must not


def clip(source: str, result: str) -> list[onnx.NodeProto]:
    return [helper.make_node("Clip", [source, "zero", "six"], [result])]


def silu(source: str, result: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Sigmoid", [source], [f"{result}/gate"]),
        helper.make_node("Mul", [source, f"{result}/gate"], [result]),
    ]


def instance_norm(source: str, result: str) -> list[onnx.NodeProto]:
    return [helper.make_node("InstanceNormalization", [source, "ones", "ones"], [result])]


def one(operation: str) -> Callable[[str, str], list[onnx.NodeProto]]:
    return lambda source, result: [helper.make_node(operation, [source], [result])]


CONSTANTS = {"zero": np.float32(0), "six": np.float32(6), "ones": np.ones(16, np.float32)}


@pytest.mark.parametrize(
    ("activation", "reason"),
    [
        (clip, "comes from Clip node"),
        (silu, "multiplies or divides two computed tensors"),
        (one("Sigmoid"), "comes from Sigmoid node"),
        (one("HardSwish"), "comes from HardSwish node"),
        (one("Softplus"), "comes from Softplus node"),
        (instance_norm, "comes from InstanceNormalization node"),
    ],
    ids=["ReLU6", "SiLU", "sigmoid", "hard swish", "softplus", "instance normalisation"],
)
def test_streams_that_end_with_what_no_factor_goes_through_are_left(activation: Any, reason: str) -> None:
    model = joined((1.0, WEAK), activation=activation, weights=CONSTANTS)

    report = equalise_streams(model, stream_ranges(model, pictures(size_of(model), 1)))

    (layer,) = report.layers
    assert not layer.applied
    assert layer.ratio_before == layer.ratio_after
    assert layer.reason.count(reason) == 2  # each stream says so
    assert report.model.graph == model.graph


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (one("Identity"), "normals: 'more' is an output of the model"),
        (one("Sigmoid"), "normals: 'stages.0.normals.conv/Relu' goes into Sigmoid node 'more', which no factor"),
        (lambda source, result: clip(source, result), "goes into Clip node 'more'"),
        (one("Flatten"), "goes into Flatten node 'more'"),
        (
            lambda source, result: [
                helper.make_node("Add", [source, "x_wide"], ["sum"]),
                helper.make_node("Conv", ["sum", "row"], [result]),
            ],
            "comes from Tile node 'x_wide', which no factor",
        ),
        (
            lambda source, result: [helper.make_node("Concat", [source, source], [result], axis=2)],
            "does not join channels",
        ),
        (
            lambda source, result: [helper.make_node("Resize", [source, "roi", "scales"], [result], **CROPPING)],
            "goes into Resize node 'more'",
        ),
    ],
    ids=["an output", "sigmoid", "clip", "flatten", "a sum with the image", "another axis", "values outside"],
)
def test_the_others_follow_a_stream_that_cannot_be_scaled(read: Any, reason: str) -> None:
    weights = {
        **CONSTANTS,
        "times": np.array([1, 16, 1, 1]),
        "row": np.ones((1, 16, 1, 1), np.float32),
        "roi": np.zeros(8, np.float32),
        "scales": np.ones(4, np.float32),
    }
    tile = helper.make_node("Slice", ["x", "first", "second", "axis"], ["x_one"])
    weights |= {"first": np.array([0]), "second": np.array([1]), "axis": np.array([1])}
    wide = helper.make_node("Tile", ["x_one", "times"], ["x_wide"])
    model = joined(
        (1.0, WEAK),
        also_read=lambda stream: [tile, wide, *read(stream, "more")],
        weights=weights,
        outputs=["more"],
    )
    images = pictures(size_of(model), 1)
    ranges = stream_ranges(model, images)
    strong, weak = (ranges[name].high for name in stream_tensors(model))

    report = equalise_streams(model, ranges)

    (layer,) = report.layers
    assert reason in layer.reason
    assert layer.factors["normals"] == 1
    assert layer.factors["segmentation"] == pytest.approx(weak / strong)  # the strong stream comes down instead
    assert layer.ratio_after == pytest.approx(1)
    assert_equal_outputs(outputs_of(model, images), outputs_of(report.model, images))


CROPPING = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 1.0}


def test_streams_that_are_added_to_each_other_are_left() -> None:
    def activation(source: str, result: str) -> list[onnx.NodeProto]:
        first = "stages.0.segmentation.conv/Relu"
        return [
            helper.make_node("Relu" if result == first else "Add", [source, first][: 1 + (result != first)], [result])
        ]

    model = joined((1.0, 1.0), activation=activation)
    strong, weak = stream_tensors(model)

    report = equalise_streams(model, {strong: Range(0, 9), weak: Range(0, 1)})

    assert report.layers[0].reason.startswith(
        "segmentation: it has one factor with another stream that fusions.0 joins"
    )
    assert report.model.graph == model.graph


def test_quantised_streams_are_left() -> None:
    model = quantised()

    report = equalise_streams(model, {name: Range(0, 1 + n) for n, name in enumerate(stream_tensors(model))})

    assert not any(layer.applied for layer in report.layers)
    assert all("quantizeLinear" in layer.reason for layer in report.layers)
    assert report.model.graph == model.graph


def test_ranges_that_are_close_are_left() -> None:
    model = joined((1.0, 1.0))
    first, second = stream_tensors(model)

    report = equalise_streams(model, {first: Range(0, 1.0), second: Range(0, 1.05)})

    assert str(report.layers[0]) == "fusions.0: streams left as they are (their ranges are 1.1:1 already)"
    assert report.model.graph == model.graph


@pytest.mark.parametrize("dead", [(0,), (0, 1)])
def test_streams_that_are_never_active_are_left(dead: tuple[int, ...]) -> None:
    model = joined((1.0, 1.0))
    names = stream_tensors(model)

    report = equalise_streams(model, {name: Range(0, 0 if n in dead else 1) for n, name in enumerate(names)})

    assert report.layers == (
        EqualisedLayer(
            "fusions.0",
            report.layers[0].factors,
            applied=False,
            reason="none is ever active" if len(dead) == 2 else "their ranges are 1.0:1 already",
            ratio_before=1.0,
            ratio_after=1.0,
        ),
    )


def test_a_network_without_nddr_is_left() -> None:
    model = exported("cross-stitch")

    report = equalise_streams(model, {})

    assert report.layers == ()
    assert report.model == model


def test_a_missing_range_is_refused() -> None:
    model = joined((1.0, 1.0))

    with pytest.raises(InputError, match=r"range of 'stages\.0\.segmentation\.conv/Relu', which fusions\.0 joins"):
        equalise_streams(model, {})


def test_ranges_of_another_number_of_channels_are_refused() -> None:
    model = joined((1.0, 1.0))
    ranges = {name: (np.zeros(7), np.ones(7)) for name in stream_tensors(model)}

    with pytest.raises(InputError, match="7 pairs of numbers, not all of them finite; expected one, or one for each"):
        equalise_streams(model, ranges)
