"""A quantised graph computes what its integers say, in every target's own form."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graph_subjects import exported, run, small
from onnx import TensorProto, helper, numpy_helper
from quantise_subjects import IMAGES, Net, Seen, chain, optimised, quantised, ranges_of, residual, streams

from nddr_deploy.errors import ConfigError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.calibration import Range, calibrate
from nddr_deploy.graph.fp16 import to_fp16
from nddr_deploy.graph.metadata import manifest_of
from nddr_deploy.graph.quantize import observed, quantisable, quantize
from nddr_deploy.graph.ranges import scan_ranges
from nddr_deploy.graph.tensorrt_lint import check_for_tensorrt

TARGETS = ("cpu", "tensorrt", "tensorrt8")


def weights(model: onnx.ModelProto) -> dict[str, Any]:
    return {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}


def rounded(values: Any, step: float, zero: int, low: int, high: int) -> Any:
    return np.clip(np.rint(values / step) + zero, low, high) - zero


def apart(one: Any, other: Any) -> float:
    """The difference's size as a share of the first's, root mean square."""
    return float(np.sqrt(np.mean((one - other) ** 2) / np.mean(one**2)))


def emulated(model: onnx.ModelProto, target: str) -> Any:
    """`chain` with 1x1 convolutions in whole numbers: by numpy, with this test's own grids."""
    given = weights(model)
    unsigned = target == "cpu"
    low, high = (0, 255) if unsigned else (-128, 127)
    ranges = ranges_of(model, ["stem.relu", "first.relu", "second.relu"])

    def conv(values: Any, name: str) -> Any:
        kernel, bias = given[f"{name}.weight"][:, :, 0, 0].astype(np.float64), given[f"{name}.bias"]
        return np.einsum("oc,nchw->nohw", kernel, values) + bias[None, :, None, None]

    def grid(name: str) -> float:
        return float(np.float32(ranges[name].high / (255 if unsigned else 127)))

    def integer_conv(values: Any, name: str, step: float) -> Any:
        kernel = given[f"{name}.weight"][:, :, 0, 0].astype(np.float64)
        steps = np.abs(kernel).max(axis=1) / 127
        whole = np.rint(kernel / steps[:, None])
        bias = given[f"{name}.bias"]
        if unsigned:
            bias = np.rint(bias / (step * steps)) * step * steps
        summed = np.einsum("oc,nchw->nohw", whole, rounded(values, step, 0, low, high))
        return summed * (step * steps)[None, :, None, None] + bias[None, :, None, None]

    outputs = []
    for images in IMAGES:
        x = images.transpose(0, 3, 1, 2) * np.float64(np.float32(1 / 255))
        stem = np.maximum(conv(x, "stem"), 0)
        first = np.maximum(integer_conv(stem, "first", grid("stem.relu")), 0)
        second = np.maximum(integer_conv(first, "second", grid("first.relu")), 0)
        if unsigned:
            second = rounded(second, grid("second.relu"), 0, low, high) * grid("second.relu")
        outputs.append(conv(second, "y"))
    return np.concatenate(outputs)


def pointwise() -> onnx.ModelProto:
    net = Net()
    net.head(net.relu(net.conv("second", net.relu(net.conv("first", net.stem())))))
    return net.model()


@pytest.mark.parametrize(
    ("target", "plainly"),
    [("cpu", True), ("cpu", False), ("tensorrt8", True)],  # optimising, ONNX Runtime rounds more than TensorRT's says
)
def test_the_graph_computes_what_numpy_does_with_the_same_whole_numbers(target: Any, plainly: bool) -> None:
    model = pointwise()
    infer = run(quantised(model, target).model, plainly=plainly)

    found = np.concatenate([infer(images)["y"] for images in IMAGES])

    # A sum that lies between two integers in float32 and in float64 may fall to either side: one step in a few values.
    truth = emulated(model, target)
    assert np.mean(np.abs(found - truth) < 1e-4 * np.abs(truth).max()) > 0.98
    assert apart(truth, found) < 2e-3
    floats = np.concatenate([run(model)(images)["y"] for images in IMAGES])
    assert 2e-3 < apart(floats, found) < 3e-2  # eight bits


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "model",
    [chain(), chain(bias=False), residual(), streams(2), streams(3)],
    ids=["chain", "no bias", "residual", "two streams", "three streams"],
)
def test_optimised_or_as_written_it_stays_near_float32(model: onnx.ModelProto, target: Any) -> None:
    result = quantised(model, target)
    floats, fused, plain = (
        [infer(images) for images in IMAGES]
        for infer in (run(model), run(result.model), run(result.model, plainly=True))
    )

    for name in floats[0]:
        truth, one, other = (np.concatenate([found[name] for found in runs]) for runs in (floats, fused, plain))
        # streams share the scale of the largest; what comes of the smallest alone is off by 30 to 900 times as much
        assert apart(truth, one) < 0.04
        assert apart(truth, other) < 0.04
        assert apart(one, other) < 0.02


def test_on_a_cpu_every_layer_becomes_an_integer_one() -> None:
    result = quantised(streams(3), "cpu")

    operations = optimised(result.model)

    assert {name.split("_")[0] for name in operations["QLinearConv"]} == set(result.layers)
    assert len(operations["QLinearConv"]) == 6
    assert len(operations["QLinearConcat"]) == 1
    assert "Relu" not in operations


def test_the_form_for_cpus_is_unsigned_with_biases_on_the_grid_of_the_products() -> None:
    model = quantised(chain(), "cpu").model
    seen, given = Seen(model), weights(model)

    assert {grid.kind for grid in seen.grids.values()} == {"uint8"}
    assert given["second.weight/quantised"].dtype == np.int8
    assert given["second/bias/quantised"].dtype == np.int32
    products = np.float32(seen.grids["first.relu"].scale) * given["second.weight/scale"]
    assert given["second/bias/scale"] == pytest.approx(products, rel=1e-6)
    assert not given["second/bias/zero_point"].any()
    assert "second.weight" not in given  # the file becomes smaller
    assert "y.weight" in given


@pytest.mark.parametrize("target", ["tensorrt", "tensorrt8"])
def test_the_form_for_tensorrt_is_signed_around_zero_with_everything_else_in_float(target: Any) -> None:
    model = quantised(chain(), target).model
    given = weights(model)

    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert all(len(node.input) == 3 and not given[node.input[2]].any() for node in pairs)
    assert {given[node.input[2]].dtype for node in pairs} == {np.dtype(np.int8)}
    assert given["second.bias"].dtype == np.float32
    assert given["second.weight"].dtype == np.float32  # before a pair of its own, as TensorRT has it
    assert model.opset_import[0].version == 17
    for major in (8, 10, 11):
        check_for_tensorrt(model, precision="int8", major=major, source="it")


def test_for_tensorrt_10_the_rest_becomes_fp16_with_the_ranges_of_the_float32_model() -> None:
    model = residual()
    result = quantised(model, "tensorrt").model

    half = to_fp16(result, scan_ranges(model, run, IMAGES))

    assert half.kept == ()
    check_for_tensorrt(half.model, precision="int8", major=10, source="it")
    before, after = weights(result), weights(half.model)
    scales = [name for name in before if name.endswith("/scale")]
    assert scales
    for name in scales:  # FP16 has them, so nothing is rounded anew
        found = after.get(name, after.get(f"{name}/fp16"))
        assert np.array_equal(found.astype(np.float32), before[name])
    floats = np.concatenate([run(model)(images)["y"] for images in IMAGES])
    plain = run(half.model, plainly=True)
    assert apart(floats, np.concatenate([plain(images)["y"] for images in IMAGES])) < 0.04


def test_weights_that_two_layers_share_are_stored_once_and_their_biases_each_on_its_own_grid() -> None:
    net = Net()
    stem = net.stem()
    one, other = net.relu(net.conv("one", stem)), net.relu(net.conv("other", net.conv("between", stem)))
    for name, source in (("shared1", one), ("shared2", other)):
        net.conv(name, source)
        net.nodes[-1].input[1:] = ["shared1.weight", "shared1.bias"]
    net.head(net.relu("shared1"), name="y")
    net.head(net.relu("shared2"), name="z")
    del net.weights["shared2.weight"], net.weights["shared2.bias"]
    model = net.model("y", "z")

    result = quantised(model, "cpu").model

    given, seen = weights(result), Seen(result)
    assert [name for name in given if name.startswith("shared1.weight")] == [
        "shared1.weight/scale",
        "shared1.weight/zero_point",
        "shared1.weight/quantised",
    ]
    for name, source in (("shared1", "one.relu"), ("shared2", "other.relu")):
        products = np.float32(seen.grids[source].scale) * given["shared1.weight/scale"]
        assert given[f"{name}/bias/scale"] == pytest.approx(products, rel=1e-6)
    floats, found = run(model)(IMAGES[0]), run(result)(IMAGES[0])
    assert all(apart(floats[name], found[name]) < 0.04 for name in floats)


def test_a_bias_that_is_large_against_its_weights_is_not_cut_off() -> None:
    model = chain()
    for weight in model.graph.initializer:
        if weight.name == "second.weight":
            values = numpy_helper.to_array(weight).copy()
            values[3] *= 1e-9  # its products' grid would take the bias beyond 32 bits
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))

    floats, found = run(model)(IMAGES[0]), run(quantised(model, "cpu").model)(IMAGES[0])

    assert apart(floats["y"], found["y"]) < 0.03


def test_shared_weights_leave_room_for_the_larger_bias() -> None:
    net = Net()
    stem = net.stem()
    net.head(net.relu(net.conv("one", stem)))
    net.head(net.relu(net.conv("other", stem)), name="z")
    net.weights["one.weight"][3] *= np.float32(1e-9)
    net.weights["other.bias"] *= np.float32(100)
    del net.weights["other.weight"]
    next(node for node in net.nodes if node.name == "other").input[1] = "one.weight"
    model = net.model("y", "z")

    given = weights(quantised(model, "cpu").model)

    bias = given["other/bias/quantised"] * given["other/bias/scale"].astype(np.float64)
    assert bias == pytest.approx(weights(model)["other.bias"], rel=1e-3, abs=1e-3)


def test_reduced_weights_leave_room_for_sums_of_two_products_in_16_bits() -> None:
    full, reduced = (quantised(chain(), "cpu", reduce_range=reduce).model for reduce in (False, True))

    assert np.abs(weights(full)["first.weight/quantised"].astype(int)).max() == 127
    assert np.abs(weights(reduced)["first.weight/quantised"].astype(int)).max() == 64


def test_names_and_the_model_that_was_given_stay() -> None:
    model = chain()
    before = model.SerializeToString()

    result = quantised(model, "cpu").model

    assert model.SerializeToString() == before
    kept = [node.name for node in result.graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    assert kept == [node.name for node in model.graph.node]
    assert [value.name for value in result.graph.output] == ["y"]


def test_with_every_layer_kept_the_graph_is_the_float32_one() -> None:
    model = residual()

    result = quantised(model, "cpu", keep=quantisable(model, "cpu"))

    assert result.layers == ()
    assert result.model.graph == model.graph


@pytest.mark.parametrize("target", TARGETS)
def test_ranges_for_the_whole_serve_every_choice_of_what_to_keep(target: Any) -> None:
    model = residual()
    layers = quantisable(model, target)
    ranges = ranges_of(model, observed(model, target))

    for chosen in range(2 ** len(layers)):
        keep = [name for place, name in enumerate(layers) if chosen >> place & 1]
        result = quantize(model, ranges, target, keep=keep)
        assert set(result.layers) == set(layers) - set(keep)
        if target == "cpu" and chosen % 8 == 5:
            operations = optimised(result.model)
            assert {name.split("_")[0] for name in operations["QLinearConv"]} == set(result.layers)


def test_a_missing_range_is_refused_with_the_tensors_name() -> None:
    model = chain()
    ranges = ranges_of(model, observed(model, "cpu"))
    with pytest.raises(ConfigError, match=r"nothing is known of 'first.relu'"):
        quantize(model, {name: found for name, found in ranges.items() if name != "first.relu"}, "cpu")
    with pytest.raises(ConfigError, match=r"'first.relu' goes from 0 to nan"):
        quantize(model, {**ranges, "first.relu": Range(0.0, np.nan)}, "cpu")


def test_constants_in_nodes_are_weights_too() -> None:
    model = chain()
    weight = next(weight for weight in model.graph.initializer if weight.name == "first.weight")
    node = helper.make_node("Constant", [], ["first.weight"], name="constant", value=weight)
    model.graph.initializer.remove(weight)
    model.graph.node.insert(0, node)

    result = quantised(model, "cpu")

    assert result.layers == ("first", "second")
    assert "first.weight/quantised" in weights(result.model)


def test_a_clip_from_zero_counts_as_a_relu() -> None:
    net = Net()
    stem = net.stem()
    net.weights |= {"zero": np.float32(0), "six": np.float32(6)}
    first = net.add("Clip", [net.conv("first", stem), "zero", "six"], "first.clip")
    net.head(net.relu(net.conv("second", first)))

    result = quantised(net.model(), "cpu")

    assert Seen(result.model).reads("first.clip")[0] == "first"
    assert len(optimised(result.model)["QLinearConv"]) == 2


NETWORKS = [("resnet 18", 2), ("vgg", 3)]


@pytest.mark.parametrize(("form", "tasks"), NETWORKS)
@pytest.mark.parametrize("target", TARGETS)
def test_an_exported_network_is_quantised_and_says_so_in_its_manifest(form: str, tasks: int, target: Any) -> None:
    model = exported(form, tasks=tasks)
    images = list(probe_images((65, 97), 4)[:, None])
    ranges = calibrate(model, observed(model, target), images, run)

    result = quantize(model, ranges, target)

    onnx.checker.check_model(result.model, full_check=True)
    manifest = manifest_of(result.model, source="it")
    counts = f"{len(result.layers)} layers in int8, {len(result.kept)} others in float"
    assert manifest.notes[-1].endswith(counts)
    assert manifest.tasks == manifest_of(model, source="it").tasks
    if target == "cpu":
        operations = optimised(result.model)
        assert {name.split("_token")[0].split("_nchwc")[0] for name in operations["QLinearConv"]} == set(result.layers)
    truth, plain = run(model), run(result.model, plainly=True)
    for name in truth(images[0]):
        one, other = (np.concatenate([infer(batch)[name] for batch in images]) for infer in (truth, plain))
        assert apart(one, other) < 0.1  # random weights; trained ones are nearer


def test_a_graph_without_metadata_needs_none() -> None:
    net = Net()
    net.head(net.relu(net.conv("first", net.stem())))
    bare = small(net.nodes, net.weights, {"y": TensorProto.FLOAT})

    assert quantised(bare, "tensorrt").layers == ("first",)
