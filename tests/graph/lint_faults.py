"""What breaks each rule for quantised graphs: faults to be planted, in place, into `lint_subjects.sound`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from graph_subjects import exported
from lint_subjects import insert_after, node_of, pair, put, read_instead, sound, weight_of
from onnx import TensorProto, helper

from nddr_deploy.graph.quantize_lint import lint

Plant = Callable[[onnx.ModelProto], None]


def without_pairs(model: onnx.ModelProto) -> None:
    model.CopyFrom(exported("resnet 18"))


def int32_bias(model: onnx.ModelProto) -> None:
    kind = weight_of(model, "left.b").dtype.type
    put(model, left__b__int32=np.ones(16, np.int32), left__b__scale=kind(1e-3))
    insert_after(model, "left.w", helper.make_node("DequantizeLinear", ["left.b.int32", "left.b.scale"], ["left.b2"]))
    if model.opset_import[0].version == 17:  # which wants the zero point
        put(model, left__b__zero=np.int32(0))
        node_of(model, "left.b2").input.append("left.b.zero")
    read_instead(model, "left", "left.b", "left.b2")


def signed_values(model: onnx.ModelProto) -> None:
    put(model, fusion__relu__zero=np.int8(-128))


def unsigned_values(model: onnx.ModelProto) -> None:
    put(model, fusion__relu__zero=np.uint8(0))


def unsigned_weights(model: onnx.ModelProto) -> None:
    put(model, left__w__int8=np.full((16, 16, 3, 3), 3, np.uint8), left__w__zero=np.zeros(16, np.uint8))


def shifted_values(model: onnx.ModelProto) -> None:
    put(model, fusion__relu__zero=np.int8(4))


def shifted_weights(model: onnx.ModelProto) -> None:
    put(model, left__w__zero=np.arange(16, dtype=np.int8))


def computed_zero_point(model: onnx.ModelProto) -> None:
    insert_after(model, "fusion.relu", helper.make_node("Identity", ["fusion.relu.zero"], ["zero.computed"]))
    for name in ("fusion.relu.q", "fusion.relu.dq"):
        read_instead(model, name, "fusion.relu.zero", "zero.computed")


def zero_point_left_out(model: onnx.ModelProto) -> None:
    del node_of(model, "left.w").input[2]


def computed_scale(model: onnx.ModelProto) -> None:
    insert_after(model, "fusion.relu", helper.make_node("Identity", ["fusion.relu.scale"], ["scale.computed"]))
    for name in ("fusion.relu.q", "fusion.relu.dq"):
        read_instead(model, name, "fusion.relu.scale", "scale.computed")


def scale_of_zero(model: onnx.ModelProto) -> None:
    scale = weight_of(model, "right.w.scale")
    scale[3] = 0
    put(model, right__w__scale=scale)
    if any(weight.name == "right.b.scale" for weight in model.graph.initializer):
        bias = weight_of(model, "right.b.scale")
        bias[3] = 0
        put(model, right__b__scale=bias)


def scales_for_an_activation(model: onnx.ModelProto) -> None:
    zero, scale = weight_of(model, "fusion.relu.zero"), weight_of(model, "fusion.relu.scale")
    put(model, fusion__relu__zero=np.repeat(zero, 16), fusion__relu__scale=np.repeat(scale, 16))


def scales_along_the_inputs(model: onnx.ModelProto) -> None:
    node_of(model, "left.w").attribute[0].i = 1


def too_few_scales(model: onnx.ModelProto) -> None:
    for name in ("fusion.w.scale", "fusion.w.zero"):
        put(model, **{name.replace(".", "__"): weight_of(model, name)[:8]})


def one_scale_for_all_weights(model: onnx.ModelProto) -> None:
    scale = weight_of(model, "left.w.scale")[:1].reshape(())
    put(model, left__w__scale=scale, left__w__zero=np.int8(0))
    if any(weight.name == "left.b.scale" for weight in model.graph.initializer):
        put(model, left__b__scale=np.full(16, scale * np.float32(0.01)))


def reading_with_another_scale(model: onnx.ModelProto) -> None:
    put(model, other=weight_of(model, "late.w.scale").dtype.type(0.07))
    read_instead(model, "sum.relu.dq", "sum.relu.scale", "other")
    if any(weight.name == "late.b.scale" for weight in model.graph.initializer):
        put(model, late__b__scale=weight_of(model, "late.w.scale") * np.float32(0.07))


def integers_for_the_caller(model: onnx.ModelProto) -> None:
    kind = weight_of(model, "fusion.relu.zero").dtype
    number = helper.np_dtype_to_tensor_dtype(kind)
    model.graph.output.append(helper.make_tensor_value_info("fusion.relu.q", number, [1, 16, 8, 10]))


def dynamic_quantisation(model: onnx.ModelProto) -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["x.q", "x.scale", "x.zero"]),
        helper.make_node("Cast", ["x.q"], ["x.float"], to=TensorProto.FLOAT),
    ]
    insert_after(model, "x", *nodes)


def own_operation(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="com.microsoft", version=1)
    insert_after(model, "x", helper.make_node("Gelu", ["x"], ["x.gelu"], domain="com.microsoft"))


def later_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 19


def early_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 17


def pairs_in_fp32(model: onnx.ModelProto) -> None:
    model.CopyFrom(sound("tensorrt8"))
    model.opset_import[0].version = 19


def scales_in_fp16(model: onnx.ModelProto) -> None:
    put(model, fusion__relu__scale=np.float16(0.04))


def stem_in_fp32(model: onnx.ModelProto) -> None:
    put(model, stem__w=weight_of(model, "stem.w").astype(np.float32))


def float_bias(model: onnx.ModelProto) -> None:
    put(model, left__bias=np.ones(16, np.float32))
    read_instead(model, "left", "left.b", "left.bias")


def bias_scale_of_the_weights_alone(model: onnx.ModelProto) -> None:
    put(model, left__b__scale=weight_of(model, "left.w.scale"))


def bias_scale_of_one_channel(model: onnx.ModelProto) -> None:
    scale = weight_of(model, "left.b.scale")
    scale[5] *= 1.01
    put(model, left__b__scale=scale)


def bias_off_zero(model: onnx.ModelProto) -> None:
    put(model, left__b__zero=np.ones(16, np.int32))


def bias_of_8_bits(model: onnx.ModelProto) -> None:
    put(model, left__b__int32=np.ones(16, np.int8), left__b__zero=np.zeros(16, np.int8))


def bias_cut_off(model: onnx.ModelProto) -> None:
    bias = weight_of(model, "left.b.int32")
    bias[2] = 2**31 - 1
    put(model, left__b__int32=bias)


def second_reader(model: onnx.ModelProto) -> None:
    put(model, eps=np.float32(1))
    insert_after(model, "late.relu", helper.make_node("Mul", ["late.relu", "eps"], ["late.twice"]))
    model.graph.output.append(helper.make_tensor_value_info("late.twice", TensorProto.FLOAT, None))


def result_in_float(model: onnx.ModelProto) -> None:
    read_instead(model, "y", "late.relu.dq", "late.relu")
    for name in ("late.relu.q", "late.relu.dq"):
        model.graph.node.remove(node_of(model, name))


def relu_off_the_grid(model: onnx.ModelProto) -> None:
    put(model, fusion__relu__zero=np.uint8(7))


def relu_before_an_implied_zero(model: onnx.ModelProto) -> None:
    for name in ("fusion.relu.q", "fusion.relu.dq"):
        del node_of(model, name).input[2]


def clip_inside_the_grid(model: onnx.ModelProto) -> None:
    put(model, six=np.float32(6), none=np.float32(0))
    node = node_of(model, "fusion.relu")  # its grid reaches to 10.2
    node.op_type = "Clip"
    node.input.extend(["none", "six"])


def full_range(model: onnx.ModelProto) -> None:
    weights = weight_of(model, "left.w.int8")
    weights[0, 0, 0, 0] = -65
    put(model, left__w__int8=weights)


def second_scale(model: onnx.ModelProto) -> None:
    kind = weight_of(model, "late.w.scale").dtype.type
    put(model, other=kind(0.03))
    insert_after(model, "stem.relu.dq", *pair("stem.relu", "other", "stem.relu.zero", "stem.again"))
    read_instead(model, "right", "stem.relu.dq", "stem.again")
    if any(weight.name == "right.b.scale" for weight in model.graph.initializer):
        put(model, right__b__scale=weight_of(model, "right.w.scale") * np.float32(0.03))


def second_pair(model: onnx.ModelProto) -> None:
    insert_after(model, "stem.relu.dq", *pair("stem.relu", "stem.relu.scale", "stem.relu.zero", "stem.again"))
    read_instead(model, "right", "stem.relu.dq", "stem.again")


def pair_behind_a_pair(model: onnx.ModelProto) -> None:
    insert_after(model, "stem.relu.dq", *pair("stem.relu.dq", "stem.relu.scale", "stem.relu.zero", "stem.again"))
    read_instead(model, "right", "stem.relu.dq", "stem.again")


def stream_on_its_own_scale(model: onnx.ModelProto) -> None:
    put(model, right__relu__scale=0.001)


def stream_past_its_pair(model: onnx.ModelProto) -> None:
    """The Concat reads one stream in float; another layer reads that stream on a scale of its own."""
    stream_on_its_own_scale(model)
    read_instead(model, "both", "right.relu.dq", "right.relu")


def pool_with_two_scales(model: onnx.ModelProto) -> None:
    put(model, pool__scale=0.03, both__scale=0.03, right__relu__scale=0.03)
    if any(weight.name == "fusion.b.scale" for weight in model.graph.initializer):
        put(model, fusion__b__scale=weight_of(model, "fusion.w.scale") * np.float32(0.03))


def slice_with_two_scales(model: onnx.ModelProto) -> None:
    pool_with_two_scales(model)
    put(model, pool__starts=np.array([0, 0]), pool__ends=np.array([1, 16]))
    pool = node_of(model, "pool")
    pool.op_type = "Slice"
    pool.input.extend(["pool.starts", "pool.ends"])
    del pool.attribute[:]


def pool_read_twice(model: onnx.ModelProto) -> None:
    """The pool itself reads floats; the tensor before it is quantised elsewhere, on another scale."""
    pool_with_two_scales(model)
    read_instead(model, "pool", "left.relu.dq", "left.relu")


def both_branches(model: onnx.ModelProto) -> None:
    put(model, inner__scale=weight_of(model, "late.w.scale").dtype.type(0.05), inner__zero=np.int8(0))
    insert_after(model, "inner", *pair("inner", "inner.scale", "inner.zero", "inner.dq"))
    read_instead(model, "sum", "inner", "inner.dq")


def neither_branch(model: onnx.ModelProto) -> None:
    read_instead(model, "sum", "fusion.relu.dq", "fusion.relu")


def float_branch(model: onnx.ModelProto) -> None:
    read_instead(model, "sum", "fusion.relu.dq", "stem.relu")


def pair_before_the_relu(model: onnx.ModelProto) -> None:
    number = weight_of(model, "stem.relu.zero")
    put(model, left__scale=weight_of(model, "left.w.scale").dtype.type(0.02), left__zero=number)
    insert_after(model, "left", *pair("left", "left.scale", "left.zero", "left.dq"))
    read_instead(model, "left.relu", "left", "left.dq")


def normalisation(model: onnx.ModelProto) -> None:
    names = [f"bn.{name}" for name in ("scale", "bias", "mean", "variance")]
    kind = weight_of(model, "left.w.scale").dtype
    for name in names:
        put(model, **{name.replace(".", "__"): np.ones(16, kind)})
    insert_after(model, "late", helper.make_node("BatchNormalization", ["late", *names], ["late.bn"]))
    read_instead(model, "late.relu", "late", "late.bn")


def affine(model: onnx.ModelProto) -> None:
    kind = weight_of(model, "left.w.scale").dtype
    put(model, factor2=np.ones((16, 1, 1), kind))
    insert_after(model, "late", helper.make_node("Mul", ["late", "factor2"], ["late.mul"]))
    read_instead(model, "late.relu", "late", "late.mul")


def float_values(model: onnx.ModelProto) -> None:
    read_instead(model, "left", "stem.relu.dq", "stem.relu")


def last_layer(model: onnx.ModelProto) -> None:
    name = "last" if any(node.name == "last" for node in model.graph.node) else "y"
    scale = weight_of(model, "late.w.scale").dtype.type(0.01)
    put(model, w__int8=np.ones((16, 16, 1, 1), np.int8), w__scale=np.full(16, scale), w__zero=np.zeros(16, np.int8))
    nodes = [helper.make_node("DequantizeLinear", ["w.int8", "w.scale", "w.zero"], ["w"], axis=0)]
    if "late.relu.dq" not in node_of(model, name).input:
        put(model, end__scale=scale, end__zero=np.int8(0))
        nodes += pair("late.relu", "end.scale", "end.zero", "end")
        read_instead(model, name, "late.relu", "end")
    insert_after(model, "late.relu", *nodes)
    read_instead(model, name, f"{name}.w", "w")
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))


def quantised_result(model: onnx.ModelProto) -> None:
    name = "last" if any(node.name == "last" for node in model.graph.node) else "y"
    zero = weight_of(model, "late.w.zero")[0] if name == "last" else weight_of(model, "sum.relu.zero")
    put(model, end__scale=weight_of(model, "late.w.scale").dtype.type(0.01), end__zero=zero)
    insert_after(model, name, *pair(name, "end.scale", "end.zero", "end"))


def narrow(model: onnx.ModelProto) -> None:
    """`right` becomes a convolution of groups, of 4 channels each; then one of 4 channels out."""
    node = node_of(model, "right")
    node.attribute.append(helper.make_attribute("group", 4))
    put(model, right__w__int8=weight_of(model, "right.w.int8")[:, :4])
    assert not [finding for finding in lint(model, "cpu") if finding.rule == "few-channels"]
    for name in ("int8", "scale", "zero"):
        put(model, **{f"right__w__{name}": weight_of(model, f"right.w.{name}")[:4]})


def channels_of_zeros(model: onnx.ModelProto) -> None:
    weights = weight_of(model, "right.w.int8")
    weights[[2, 7]] = 0
    put(model, right__w__int8=weights)


def nothing_but_zeros(model: onnx.ModelProto) -> None:
    put(model, right__w__int8=np.zeros((16, 16, 3, 3), np.int8))


def tiny_scale(model: onnx.ModelProto) -> None:
    scale = weight_of(model, "right.w.scale")
    scale[1] = 2e-5
    put(model, right__w__scale=scale)
