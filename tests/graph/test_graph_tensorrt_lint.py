"""What TensorRT would refuse is refused first, with the node's name; what it takes passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from graph_subjects import conv, exported, quantised, ranges_of, small
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.errors import ModelFileError, UnsupportedError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.fp16 import to_fp16
from nddr_deploy.graph.tensorrt_lint import check_for_tensorrt

UINT8, FLOAT = TensorProto.UINT8, TensorProto.FLOAT


def check(model: onnx.ModelProto, precision: str = "fp16", major: int = 10) -> None:
    check_for_tensorrt(model, precision=precision, major=major, source="model.onnx")


@pytest.mark.parametrize("major", [8, 10, 11])
@pytest.mark.parametrize("outputs", ["raw", "decoded"])
@pytest.mark.parametrize("dynamic", [(), ("batch", "size")], ids=str)
def test_what_nddr_export_writes_is_taken(major: int, outputs: str, dynamic: tuple[str, ...]) -> None:
    model = exported("alexnet", tasks=5, size_hw=(131, 163), outputs=outputs, dynamic=dynamic)
    before = model.SerializeToString()

    check(model, "fp32", major)
    check(model, "fp16", major)

    assert model.SerializeToString() == before


def test_fp16_graphs_are_taken_for_fp16_and_not_for_fp32() -> None:
    model = exported()
    half = to_fp16(model, ranges_of(model, [probe_images((65, 97), 1)])).model

    check(half, "fp16", 10)
    with pytest.raises(ModelFileError, match=r"computes in FP16 \('images/Mul/fp16' at Cast node .*fp32 was asked"):
        check(half, "fp32", 10)


def test_opsets_above_17_are_not_for_tensorrt_8() -> None:
    model = exported(opset=19)

    check(model, "fp16", 10)
    with pytest.raises(UnsupportedError, match=r"has opset 19; TensorRT 8 reads .* 17. Export it with --opset 17"):
        check(model, "fp16", 8)


# Int8


def test_a_quantised_model_of_a_later_opset_is_to_be_quantised_for_tensorrt_8() -> None:
    model = quantised()
    model.opset_import[0].version = 19

    with pytest.raises(UnsupportedError, match=r"up to opset 17. Quantise with --target tensorrt8, or use TensorRT 10"):
        check(model, "int8", 8)


@pytest.mark.parametrize("major", [8, 10, 11])
def test_signed_symmetric_pairs_are_taken_for_int8(major: int) -> None:
    check(quantised("vgg"), "int8", major)


def test_the_fp16_form_of_a_quantised_graph_is_taken() -> None:
    model = quantised()

    check(to_fp16(model, ranges_of(model, [probe_images((65, 97), 1)])).model, "int8", 10)


def test_int8_of_a_graph_without_pairs_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(
        ModelFileError, match=r"has no QuantizeLinear/DequantizeLinear pair .* Quantise .* ask for fp16"
    ):
        check(exported(), "int8")
    weights_alone = small([*dequantised_weight(), conv("y", "x", "w")], WEIGHTS)
    with pytest.raises(ModelFileError, match="has no QuantizeLinear/DequantizeLinear pair on any activation"):
        check(weights_alone, "int8")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_quantised_graph_is_not_built_as_anything_else(precision: str) -> None:
    with pytest.raises(ModelFileError, match=rf"is quantised \(QuantizeLinear node '.*'\), but {precision} was"):
        check(quantised(), precision)


def test_what_onnx_runtime_quantises_for_cpus_is_refused_with_the_node() -> None:
    with pytest.raises(ModelFileError, match=r"node '.+' .*Quantise symmetrically with signed 8 bits"):
        check(quantised(form_of="CPU"), "int8")


WEIGHTS: dict[str, Any] = {
    "x.scale": np.float32(0.01),
    "zero": np.int8(0),
    "w.int8": np.ones((4, 3, 1, 1), np.int8),
    "w.scale": np.full(4, 0.01, np.float32),
    "w.zero": np.zeros(4, np.int8),
}


def dequantised_weight() -> list[onnx.NodeProto]:
    return [helper.make_node("DequantizeLinear", ["w.int8", "w.scale", "w.zero"], ["w"], axis=0)]


def pairs(**changed: Any) -> onnx.ModelProto:
    """One convolution with its input and weights dequantised, and with some weights changed."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x.scale", "zero"], ["x.q"]),
        helper.make_node("DequantizeLinear", ["x.q", "x.scale", "zero"], ["x.dq"]),
        *dequantised_weight(),
        conv("y", "x.dq", "w"),
    ]
    return small(nodes, {**WEIGHTS, **{name.replace("_", "."): value for name, value in changed.items()}})


def with_int32_bias() -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x.scale", "zero"], ["x.q"]),
        helper.make_node("DequantizeLinear", ["x.q", "x.scale", "zero"], ["x.dq"]),
        *dequantised_weight(),
        helper.make_node("DequantizeLinear", ["bias.int32", "bias.scale"], ["bias"]),
        helper.make_node("Conv", ["x.dq", "w", "bias"], ["y"]),
    ]
    return small(nodes, {**WEIGHTS, "bias.int32": np.ones(4, np.int32), "bias.scale": np.float32(1e-4)})


def without_zero_point() -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x.scale"], ["x.q"]),
        helper.make_node("DequantizeLinear", ["x.q", "x.scale"], ["x.dq"]),
        *dequantised_weight(),
        conv("y", "x.dq", "w"),
    ]
    return small(nodes, WEIGHTS)


def read_as_integers() -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x.scale", "zero"], ["x.q"]),
        helper.make_node("DequantizeLinear", ["x.q", "x.scale", "zero"], ["x.dq"]),
        helper.make_node("Cast", ["x.q"], ["again"], to=FLOAT),
        helper.make_node("Add", ["x.dq", "again"], ["y"]),
    ]
    return small(nodes, WEIGHTS)


def computed_scale() -> onnx.ModelProto:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("QuantizeLinear", ["x", "most", "zero"], ["x.q"]),
        helper.make_node("DequantizeLinear", ["x.q", "most", "zero"], ["y"]),
    ]
    return small(nodes, WEIGHTS)


def integer_operator() -> onnx.ModelProto:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="dynamic"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    return small(nodes, {})


def test_a_zero_point_that_is_left_out_is_refused_for_version_8_alone() -> None:
    model = pairs()
    for node in model.graph.node:
        if list(node.output) == ["w"]:
            del node.input[2]  # the integers' own type says that they are signed

    check(model, "int8", 10)
    with pytest.raises(ModelFileError, match="DequantizeLinear node 'w' has no zero point, which TensorRT 8 wants"):
        check(model, "int8", 8)


def test_pairs_per_tensor_and_per_channel_and_in_constant_nodes_are_taken() -> None:
    check(pairs(), "int8", 8)
    check(pairs(w_scale=np.float32(0.01), w_zero=np.int8(0)), "int8", 8)

    model = pairs()
    constants = [weight for weight in model.graph.initializer if weight.name in ("zero", "w.scale")]
    for weight in constants:
        node = helper.make_node(
            "Constant", [], [weight.name], value=numpy_helper.from_array(numpy_helper.to_array(weight))
        )
        model.graph.node.insert(0, node)
        model.graph.initializer.remove(weight)
    check(model, "int8", 8)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (with_int32_bias, "DequantizeLinear node 'bias' dequantises the int32 bias 'bias.int32'"),
        (lambda: pairs(zero=np.int8(3)), "QuantizeLinear node 'x.q' has a zero point other than 0"),
        (lambda: pairs(w_zero=np.array([0, 0, 1, 0], np.int8)), "DequantizeLinear node 'w' has a zero point other"),
        (lambda: pairs(zero=np.uint8(0)), "QuantizeLinear node 'x.q' has values of type uint8; .* int8, signed"),
        (without_zero_point, "QuantizeLinear node 'x.q' has values of type uint8"),
        (
            lambda: pairs(w_int8=np.ones((4, 3, 1, 1), np.uint8), w_zero=np.zeros(4, np.uint8)),
            "DequantizeLinear node 'w' has weights of type uint8",
        ),
        (lambda: pairs(x_scale=np.float32(0)), "QuantizeLinear node 'x.q' has a scale of 0; expected numbers above 0"),
        (lambda: pairs(w_scale=np.float32([1, -1, 1, 1])), "DequantizeLinear node 'w' has a scale of -1"),
        (
            lambda: pairs(x_scale=np.full(3, 0.01, np.float32), zero=np.zeros(3, np.int8)),
            "QuantizeLinear node 'x.q' has 3 scales for an activation",
        ),
        (read_as_integers, "Cast node 'again' reads the integers of QuantizeLinear node 'x.q'"),
        (computed_scale, "The scale of QuantizeLinear node 'x.q' is computed"),
        (integer_operator, "DynamicQuantizeLinear node 'dynamic' computes with integers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_quantisations_are_refused_with_the_node(build: Callable[[], onnx.ModelProto], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        check(build(), "int8", 10)


# Types


def labels(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    weights = {"w": np.ones((4, 3, 1, 1), np.float32), "shape": np.array([4, 8, 10])}
    return small([conv("scores", "x", "w"), *nodes], weights, {"y": UINT8})


def to_float(source: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], ["y"], to=FLOAT)


def turned_first() -> onnx.ModelProto:
    model = small([helper.make_node("Identity", ["x"], ["y"])], {})
    for node, source, result in zip(model.graph.node[:2], ("turned", "images"), ("float", "turned"), strict=True):
        node.input[0], node.output[0] = source, result
    model.graph.node[2].input[0] = "float"
    first = onnx.NodeProto.FromString(model.graph.node[0].SerializeToString())
    del model.graph.node[0]
    model.graph.node.insert(1, first)
    return model


ARGMAX = helper.make_node("ArgMax", ["scores"], ["best"], axis=1)


@pytest.mark.parametrize("major", [8, 10])
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (turned_first, "Transpose node 'turned' reads the UINT8 input 'images'"),
        (
            lambda: labels(ARGMAX, helper.make_node("Cast", ["best"], ["y"], to=UINT8)),
            "Cast node 'y' makes the UINT8 output 'y'.* Cast from float",
        ),
        (
            lambda: labels(
                helper.make_node("Cast", ["scores"], ["small"], to=UINT8),
                helper.make_node("Reshape", ["small", "shape"], ["y"]),
            ),
            "Cast node 'small' makes 'small', UINT8 inside the graph",
        ),
        (
            lambda: small(
                [
                    helper.make_node("Add", ["images", "one"], ["more"]),
                    to_float("more"),
                ],
                {"one": np.uint8(1)},
            ),
            "Add node 'more' reads the UINT8 input 'images'",
        ),
        (
            lambda: small(
                [
                    helper.make_node("Gather", ["table", "zero"], ["found"]),
                    to_float("found"),
                ],
                {"table": np.zeros(3, np.uint8), "zero": np.int64(0)},
            ),
            "Gather node 'found' reads 'table', UINT8 inside the graph",
        ),
    ],
    ids=["transposed before it is cast", "labels from int64", "uint8 reshaped", "uint8 added", "uint8 table"],
)
def test_uint8_is_at_the_inputs_and_outputs_alone(
    build: Callable[[], onnx.ModelProto], message: str, major: int
) -> None:
    with pytest.raises(ModelFileError, match=message):
        check(build(), "fp16", major)


def test_labels_by_way_of_float_are_taken() -> None:
    through = [helper.make_node("Cast", ["best"], ["float.best"], to=FLOAT)]

    check(labels(ARGMAX, *through, helper.make_node("Cast", ["float.best"], ["y"], to=UINT8)), "fp16", 8)


@pytest.mark.parametrize(
    ("kind", "major", "message"),
    [
        (TensorProto.DOUBLE, 10, r"'wide' at Cast node 'wide' is float64"),
        (TensorProto.BFLOAT16, 8, r"'wide' at Cast node 'wide' is bfloat16; TensorRT 8"),
        (TensorProto.BFLOAT16, 10, r"'wide' at Cast node 'wide' is bfloat16"),
        (TensorProto.INT16, 10, r"'wide' at Cast node 'wide' is int16"),
    ],
)
def test_types_that_were_not_asked_for_are_refused(kind: int, major: int, message: str) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=kind),
        helper.make_node("Cast", ["wide"], ["y"], to=FLOAT),
    ]

    with pytest.raises(UnsupportedError, match=message):
        check(small(nodes, {}), "fp16", major)


def test_onnx_runtimes_own_operations_are_refused() -> None:
    model = small([helper.make_node("Relu", ["x"], ["y"], name="mlp/Gelu")], {})
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "Gelu", "com.microsoft"
    model.opset_import.add(domain="com.microsoft", version=1)

    with pytest.raises(UnsupportedError, match="Gelu node 'mlp/Gelu' is an operation of ONNX Runtime's own"):
        check(model)
