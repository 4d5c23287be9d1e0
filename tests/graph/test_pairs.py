"""Where Q/DQ pairs stand: the rules of each target, on networks of a few nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graph_subjects import run
from quantise_subjects import IMAGES, Net, Seen, chain, optimised, quantised, residual, streams

from nddr_deploy.graph.quantize_lint import lint

TENSORRT = ("tensorrt", "tensorrt8")
TARGETS = ("cpu", *TENSORRT)


def seen(model: onnx.ModelProto, target: Any, **options: Any) -> Seen:
    return Seen(quantised(model, target, **options).model)


def of_layers(target: Any, model: onnx.ModelProto) -> list[str]:
    """What the linter says of where pairs stand."""
    types = ("opset", "float-type", "saturation")  # the rest becomes FP16 later; no VNNI is a hint
    return [str(found) for found in lint(model, target) if found.rule not in types]


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_comes_between_a_convolution_and_its_relu(target: Any) -> None:
    found = seen(chain(), target)

    assert found.reads("first.relu") == ["first"]
    assert found.reads("second")[0] == "(first.relu)"


def test_on_a_cpu_every_layers_result_is_quantised_and_for_tensorrt_only_what_a_layer_reads() -> None:
    assert list(seen(chain(), "cpu").grids) == ["stem.relu", "first.relu", "second.relu"]
    assert list(seen(chain(), "tensorrt").grids) == ["stem.relu", "first.relu"]
    assert seen(chain(), "tensorrt").reads("y")[0] == "second.relu"


@pytest.mark.parametrize("target", TARGETS)
def test_readers_share_one_pair(target: Any) -> None:
    net = Net()
    stem = net.stem()
    first, second = net.relu(net.conv("first", stem)), net.relu(net.conv("second", stem))
    net.head(net.conv("third", net.add("Concat", [first, second], "both", axis=1), 32))
    model = quantised(net.model(), target).model

    found = Seen(model)

    assert found.nodes["first"].input[0] == found.nodes["second"].input[0]
    sources = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(sources) == len(set(sources))


def test_a_sum_adds_integers_on_a_cpu() -> None:
    found = seen(residual(), "cpu")

    assert found.reads("sum") == ["(outer)", "(stem.relu)"]
    assert found.reads("total") == ["(projection)", "(deep2)"]
    assert found.grids["outer"].zero > 0  # what comes before a sum has no ReLU
    operations = optimised(quantised(residual(), "cpu").model)
    assert len(operations["QLinearAdd"]) == 2
    assert len(operations["QLinearConv"]) == 6
    assert "Add" not in operations
    assert "Relu" not in operations


@pytest.mark.parametrize("target", TENSORRT)
def test_for_tensorrt_the_identity_branch_alone_is_quantised(target: Any) -> None:
    found = seen(residual(), target)

    assert found.reads("sum") == ["outer", "(stem.relu)"]
    assert found.reads("total") == ["(projection)", "deep2"]  # more layers lead to the other one


def test_for_tensorrt_no_branch_is_quantised_where_the_longer_one_stays_in_float() -> None:
    found = seen(residual(), "tensorrt", keep=["deep2"])

    assert found.reads("total") == ["projection", "deep2"]


def test_a_branch_that_a_float_layer_makes_is_added_in_float() -> None:
    found = seen(residual(), "cpu", keep=["outer"])

    assert found.reads("sum") == ["outer", "stem.relu"]  # the stem's is there in float anyway
    assert "outer" not in found.grids
    assert of_layers("cpu", quantised(residual(), "cpu", keep=["outer"]).model) == []


def test_the_identity_of_an_integer_sum_is_quantised_though_no_layer_reads_it() -> None:
    found = seen(residual(), "cpu", keep=["inner"])

    assert found.reads("sum") == ["(outer)", "(stem.relu)"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("count", [2, 3])
def test_streams_that_are_joined_share_the_scale_of_the_largest_through_their_pools(count: int, target: Any) -> None:
    model = streams(count)
    found = seen(model, target)

    joined = found.grids["both"]
    for index in range(count):
        for name in (f"pool{index}", f"stream{index}.relu"):
            if target == "cpu":
                assert found.grids[name] == joined
            else:
                assert name not in found.grids  # TensorRT moves the pair up itself
    largest = max(run_for(model, "both")[:, :16].max(), 0.0)
    assert joined.scale == pytest.approx(largest / (255 if target == "cpu" else 127), rel=1e-3)


def run_for(model: onnx.ModelProto, name: str) -> Any:
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    opened.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return np.concatenate([run(opened)(images)[name] for images in IMAGES])


def test_streams_that_are_joined_for_layers_in_float_have_scales_of_their_own() -> None:
    found = seen(streams(2, into_float=True), "cpu")

    assert "both" not in found.grids
    assert found.grids["stream0.relu"].scale > 20 * found.grids["stream1.relu"].scale


def test_for_tensorrt_a_stream_that_another_layer_reads_shares_the_scale_too() -> None:
    net = Net()
    stem = net.stem()
    streams_ = [net.relu(net.conv(f"stream{index}", stem)) for index in range(2)]
    both = net.add("Concat", streams_, "both", axis=1)
    net.head(net.conv("fusion", both, 32), name="y")
    net.head(net.conv("own", streams_[1]), name="z")
    model = quantised(net.model("y", "z"), "tensorrt").model

    found = Seen(model)

    assert found.grids["stream1.relu"] == found.grids["both"]
    assert found.reads("both") == ["stream0.relu", "(stream1.relu)"]
    assert of_layers("tensorrt", model) == []


def test_a_stream_that_is_resized_into_a_shortcut_shares_its_scale() -> None:
    net = Net()
    stem = net.stem()
    low = net.relu(net.conv("low", net.add("MaxPool", [stem], "small", kernel_shape=[2, 2], strides=[2, 2])))
    net.weights["size"] = np.array([1, 16, 8, 10])
    up = net.add("Resize", [low, "", "", "size"], "up", mode="linear", coordinate_transformation_mode="half_pixel")
    high = net.relu(net.conv("high", stem))
    net.head(net.relu(net.conv("shortcut", net.add("Concat", [high, up], "both", axis=1), 32)))
    model = quantised(net.model(), "cpu").model

    found = Seen(model)

    assert {found.grids[name] for name in ("low.relu", "up", "high.relu", "both")} == {found.grids["both"]}
    assert found.reads("up")[0] == "(low.relu)"
    assert of_layers("cpu", model) == []


def test_what_a_relu_cut_shares_no_scale_with_negative_values() -> None:
    net = Net()
    stem = net.stem()
    positive, negative = net.relu(net.conv("positive", stem)), net.conv("negative", stem)
    net.head(net.conv("fusion", net.add("Concat", [positive, negative], "both", axis=1), 32))
    model = quantised(net.model(), "cpu").model

    found = Seen(model)

    assert found.grids["positive.relu"].zero == 0
    assert found.grids["both"].zero > 0
    operations = optimised(model)
    assert len(operations["QLinearConv"]) == 3
    assert len(operations["QLinearConcat"]) == 1


def test_an_average_has_a_scale_of_its_own() -> None:
    net = Net()
    inner = net.relu(net.conv("inner", net.stem()))
    mean = net.add("AveragePool", [inner], "mean", kernel_shape=[3, 3], pads=[1] * 4)
    net.head(net.conv("late", mean))
    model = quantised(net.model(), "cpu").model

    found = Seen(model)

    assert found.grids["mean"].scale < found.grids["inner.relu"].scale
    assert len(optimised(model)["QLinearAveragePool"]) == 1


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kept", ["first", "second"])
def test_onnxruntime_leaves_a_layer_in_float_that_was_to_stay_there(kept: str, bias: bool) -> None:
    net = Net()
    names = ("before", "first", "second", "after")
    source = net.stem()
    for name in names:
        source = net.conv(name, source, bias=bias)
        source = net.relu(source) if name != "second" else source
    net.head(source)

    operations = optimised(quantised(net.model(), "cpu", keep=[kept]).model)

    assert {name.split("_")[0] for name in operations["QLinearConv"]} == {*names} - {kept}


def test_onnxruntime_leaves_a_layer_in_float_behind_a_pool_that_it_would_pool_in_integers() -> None:
    net = Net()
    before = net.relu(net.conv("before", net.stem()))
    kept = net.relu(net.conv("kept", net.add("MaxPool", [before], "pool", kernel_shape=[2, 2])))
    net.head(net.relu(net.conv("after", kept)))

    operations = optimised(quantised(net.model(), "cpu", keep=["kept"]).model)

    assert {name.split("_")[0] for name in operations["QLinearConv"]} == {"before", "after"}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "model",
    [chain(), residual(), streams(2), streams(3, pool=False)],
    ids=["chain", "residual", "two streams", "three streams"],
)
def test_the_linter_finds_nothing(model: onnx.ModelProto, target: Any) -> None:
    assert of_layers(target, quantised(model, target).model) == []
