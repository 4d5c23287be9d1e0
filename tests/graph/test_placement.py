"""Which layers are quantised, and why others are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graph_subjects import exported
from onnx import TensorProto, helper, numpy_helper
from quantise_subjects import Net, chain, quantised, ranges_of

from nddr_deploy.errors import ConfigError, ModelFileError, UnsupportedError
from nddr_deploy.graph.decode_graph import append_decoders
from nddr_deploy.graph.quantize import left_in_float, observed, quantisable, quantize

TARGETS = ("cpu", "tensorrt", "tensorrt8")


@pytest.mark.parametrize("target", TARGETS)
def test_layers_come_in_the_graphs_order_without_the_first_few_channels_and_the_heads_last(target: Any) -> None:
    model = chain()

    assert quantisable(model, target) == ("first", "second")
    reasons = {kept.node: kept.reason for kept in left_in_float(model, target)}
    assert reasons["stem"].startswith("it has 3 channels on one side")
    assert set(reasons) == {"stem", "y"}


def test_the_last_layer_of_every_head_stays_whatever_follows_it() -> None:
    net = Net()
    stem = net.stem()
    wide = net.conv("wide", net.relu(net.conv("first", stem)))
    net.add("Sigmoid", [wide], "y")
    net.add("ReduceMean", [net.conv("other", stem)], "z", axes=[2, 3], keepdims=0)
    model = net.model("y", "z")

    reasons = {kept.node: kept.reason for kept in left_in_float(model, "tensorrt")}

    assert quantisable(model, "tensorrt") == ("first",)
    assert "last layer of a head" in reasons["wide"]
    assert "last layer of a head" in reasons["other"]


def _gemm(**attributes: Any) -> onnx.ModelProto:
    net = Net()
    pooled = net.add("GlobalAveragePool", [net.stem()], "pooled")
    flat = net.add("Flatten", [pooled], "flat")
    net.weights["fc.weight"] = net.rng.normal(0, 0.3, (24, 16)).astype(np.float32)
    net.weights["fc.bias"] = net.rng.normal(0, 0.3, 24).astype(np.float32)
    hidden = net.relu(net.add("Gemm", [flat, "fc.weight", "fc.bias"], "fc", transB=1, **attributes))
    net.weights["last.weight"] = net.rng.normal(0, 0.3, (24, 5)).astype(np.float32)
    net.add("Gemm", [hidden, "last.weight"], "y")
    return net.model()


def test_the_hidden_layer_of_a_pooled_head_is_quantised() -> None:
    assert quantisable(_gemm(), "cpu") == ("fc",)
    assert quantisable(_gemm(alpha=0.5), "cpu") == ()
    reasons = {kept.node: kept.reason for kept in left_in_float(_gemm(alpha=0.5), "cpu")}
    assert "scales its product" in reasons["fc"]


def test_a_transposed_convolution_is_quantised_for_tensorrt_alone() -> None:
    net = Net()
    net.weights["up.weight"] = net.rng.normal(0, 0.2, (16, 24, 2, 2)).astype(np.float32)
    up = net.add("ConvTranspose", [net.stem(), "up.weight"], "up", strides=[2, 2])
    net.head(net.relu(up), 24)
    model = net.model()

    assert quantisable(model, "tensorrt") == ("up",)
    assert quantisable(model, "cpu") == ()
    scale = next(
        numpy_helper.to_array(weight)
        for weight in quantised(model, "tensorrt").model.graph.initializer
        if weight.name == "up.weight/scale"
    )
    assert scale.shape == (24,)  # of its output channels, which are its weights' second axis


def test_what_multiplies_two_activations_stays() -> None:
    net = Net()
    first = net.relu(net.conv("first", net.stem()))
    product = net.add("MatMul", [first, net.add("Transpose", [first], "transposed", perm=[0, 1, 3, 2])], "product")
    net.head(product)
    model = net.model()

    assert quantisable(model, "cpu") == ("first",)
    assert "two activations" in next(kept.reason for kept in left_in_float(model, "cpu") if kept.node == "product")


def test_a_result_that_leaves_the_model_stays_in_float_on_a_cpu() -> None:
    net = Net()
    features = net.relu(net.conv("features", net.stem()))
    net.head(net.relu(net.conv("second", features)))
    model = net.model("y", "features.relu")

    assert quantisable(model, "cpu") == ("second",)
    assert quantisable(model, "tensorrt") == ("features", "second")
    assert quantisable(net.model("y", "features"), "cpu") == ("second",)  # what its ReLU reads leaves the model, too


def test_what_is_kept_is_named_with_the_reason_and_a_wrong_name_is_refused_with_a_near_one() -> None:
    model = chain()
    result = quantised(model, "cpu", keep=["second"])

    assert result.layers == ("first",)
    assert [str(kept) for kept in result.kept if kept.node == "second"] == ["second: it was asked to stay in float"]
    with pytest.raises(ConfigError, match=r"keep: 'secnd' is unknown.*Did you mean 'second'"):
        quantised(model, "cpu", keep=["secnd"])
    with pytest.raises(ConfigError, match=r"keep: 'first.relu' is unknown. Choose one of: stem, first, second, y"):
        quantised(model, "cpu", keep=["first.relu"])  # it has no weights


def test_decoders_and_pre_processing_are_never_quantised() -> None:
    raw = exported("resnet 18")
    decoded = append_decoders(raw)

    layers = quantisable(decoded, "cpu")

    assert layers == quantisable(raw, "cpu")
    assert not [name for name in observed(decoded, "cpu") if name.startswith(("images", "decode"))]


def test_a_quantised_model_is_refused() -> None:
    once = quantised(chain(), "cpu").model

    with pytest.raises(ModelFileError, match=r"quantised already; expected float32. Quantise the file"):
        quantize(once, {}, "cpu")


def test_an_fp16_model_is_refused() -> None:
    model = chain()
    weight = next(weight for weight in model.graph.initializer if weight.name == "first.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name))

    with pytest.raises(UnsupportedError, match=r"'first.weight' is FLOAT16; expected a float32 graph"):
        quantisable(model, "cpu")


def test_nodes_need_names_to_be_chosen_by() -> None:
    model = chain()
    model.graph.node[-1].name = model.graph.node[-2].name

    with pytest.raises(ModelFileError, match="names of their own"):
        quantisable(model, "cpu")


def test_opsets_that_a_target_cannot_have_are_refused() -> None:
    old = chain()
    old.opset_import[0].version = 12
    with pytest.raises(UnsupportedError, match="opset 12; scales per channel need 13"):
        quantisable(old, "cpu")
    late = chain()
    late.opset_import[0].version = 19
    with pytest.raises(UnsupportedError, match="opset 19; TensorRT 8 reads ONNX up to opset 17"):
        quantisable(late, "tensorrt8")
    assert quantisable(late, "tensorrt") == ("first", "second")


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="target: 'gpu' is unknown"):
        quantisable(chain(), "gpu")  # type: ignore[arg-type]


def test_a_weight_that_is_not_a_number_is_refused_with_its_node() -> None:
    model = chain()
    ranges = ranges_of(model, observed(model, "cpu"))
    weight = next(weight for weight in model.graph.initializer if weight.name == "first.weight")
    values = numpy_helper.to_array(weight).copy()
    values[3, 2] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))

    with pytest.raises(ModelFileError, match=r"'first.weight' of Conv node 'first' holds infinity or what is not"):
        quantize(model, ranges, "cpu")


def test_a_nested_graph_is_refused() -> None:
    model = chain()
    branch = helper.make_graph([], "branch", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)])
    model.graph.node.append(helper.make_node("If", ["flag"], ["z"], name="if", then_branch=branch, else_branch=branch))

    with pytest.raises(UnsupportedError, match="one flat graph"):
        quantisable(model, "cpu")
