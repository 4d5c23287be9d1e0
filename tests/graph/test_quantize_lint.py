"""Each rule for quantised graphs: a network that breaks it, and the same network mended."""

from __future__ import annotations

import re

import lint_faults as faults
import pytest
from graph_subjects import run
from lint_subjects import sound

from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.quantize_lint import RULES, TARGETS, Target, lint

ALL = ("cpu", "tensorrt", "tensorrt8")
TENSORRT = ("tensorrt", "tensorrt8")


@pytest.mark.parametrize("target", TARGETS)
def test_a_sound_graph_breaks_no_rule(target: Target) -> None:
    model = sound(target)
    before = model.SerializeToString()

    assert lint(model, target) == ()

    assert model.SerializeToString() == before
    assert run(model, plainly=True)(probe_images((8, 10), 1))["y"].shape == (1, 5, 8, 10)  # and it is a network


CASES: list[
    tuple[str, tuple[str, ...], faults.Plant, str, str]
] = [  # rule, targets, fault, node, what the message says
    ("quantised", ALL, faults.without_pairs, "", "no QuantizeLinear/DequantizeLinear pair on any activation"),
    (
        "int32-bias",
        TENSORRT,
        faults.int32_bias,
        "left.b2",
        "the int32 bias 'left.b.int32', which TensorRT does not take",
    ),
    (
        "integer-type",
        ("cpu",),
        faults.signed_values,
        "fusion.relu.q",
        "values of type int8; expected uint8: .* 3 times",
    ),
    ("integer-type", TENSORRT, faults.unsigned_values, "fusion.relu.q", "values of type uint8; TensorRT takes int8"),
    ("integer-type", ALL, faults.unsigned_weights, "left.w", "has weights of type uint8"),
    ("zero-point", TENSORRT, faults.shifted_values, "fusion.relu.q", "a zero point other than 0; TensorRT quantises"),
    ("zero-point", ALL, faults.shifted_weights, "left.w", "a zero point other than 0"),
    ("zero-point", ALL, faults.computed_zero_point, "fusion.relu.q", "zero point of .* is computed"),
    (
        "written-zero-point",
        ("tensorrt8",),
        faults.zero_point_left_out,
        "left.w",
        "which TensorRT 8 wants written down as 0",
    ),
    ("constant-scale", ALL, faults.computed_scale, "fusion.relu.q", "The scale of .* is computed"),
    ("positive-scale", ALL, faults.scale_of_zero, "right.w", "has a scale of 0; expected numbers above 0; .* all zero"),
    ("activation-scale", ALL, faults.scales_for_an_activation, "fusion.relu.q", "has 16 scales for an activation"),
    (
        "channel-axis",
        ALL,
        faults.scales_along_the_inputs,
        "left.w",
        "16 scales along axis 1 .* 16 output channels, along axis 0",
    ),
    (
        "channel-axis",
        TENSORRT,
        faults.too_few_scales,
        "fusion.w",
        "8 scales along axis 0 .* each of its 16 output channels",
    ),
    ("per-channel", ALL, faults.one_scale_for_all_weights, "left.w", "one scale for 16 output channels"),
    (
        "pair-agrees",
        ALL,
        faults.reading_with_another_scale,
        "sum.relu.dq",
        r"reads integers with scale 0\.07.* wrote with scale 0\.06",
    ),
    ("integers-read", ALL, faults.integers_for_the_caller, "fusion.relu.q", "the caller reads the integers of"),
    ("integer-operation", ALL, faults.dynamic_quantisation, "x.q", "computes with integers"),
    ("runtime-operation", ALL, faults.own_operation, "x.gelu", "an operation of ONNX Runtime's own"),
    ("opset", ("tensorrt8",), faults.later_opset, "", "has opset 19; TensorRT 8 reads ONNX up to opset 17"),
    ("opset", ("tensorrt",), faults.early_opset, "", "has opset 17; QuantizeLinear takes FP16 from opset 19 on"),
    ("float-type", ("tensorrt",), faults.pairs_in_fp32, "", "Every Q/DQ node has an FP32 scale"),
    ("float-type", ("cpu", "tensorrt8"), faults.scales_in_fp16, "fusion.relu.q", "has a scale in FP16"),
    ("left-in-fp32", ("tensorrt",), faults.stem_in_fp32, "stem", "is in FP32 among layers in FP16"),
    ("int32-scaled-bias", ("cpu",), faults.float_bias, "left", "has the bias 'left.bias' in float"),
    (
        "int32-scaled-bias",
        ("cpu",),
        faults.bias_scale_of_the_weights_alone,
        "left.b",
        "a scale of .* where the product is",
    ),
    ("int32-scaled-bias", ("cpu",), faults.bias_scale_of_one_channel, "left.b", "a scale of .* where the product is"),
    ("int32-scaled-bias", ("cpu",), faults.bias_off_zero, "left.b", "a zero point other than 0"),
    ("int32-scaled-bias", ("cpu",), faults.bias_of_8_bits, "left.b", "a bias of type int8"),
    ("bias-range", ("cpu",), faults.bias_cut_off, "left.b", "has 1 values at the end of int32"),
    (
        "fuses",
        ("cpu",),
        faults.second_reader,
        "late",
        "Mul node 'late.twice' and QuantizeLinear node 'late.relu.q' read what",
    ),
    ("fuses", ("cpu",), faults.result_in_float, "late", "Conv node 'y' reads what Conv node 'late' makes in float"),
    ("relu-in-grid", ("cpu",), faults.relu_off_the_grid, "fusion.relu", r"reaches from -0\.28 to .*, beyond Relu"),
    (
        "relu-in-grid",
        ("cpu",),
        faults.relu_before_an_implied_zero,
        "fusion.relu",
        "has no zero point, without which not every ONNX Runtime",
    ),
    (
        "relu-in-grid",
        ("cpu",),
        faults.clip_inside_the_grid,
        "fusion.relu",
        r"from -?0 to 10\.2, beyond Clip .* \(0 to 6\)",
    ),
    (
        "one-scale",
        ALL,
        faults.second_scale,
        "stem.again.q",
        r"quantised by .* with scale 0\.01 and by .* with scale 0\.03",
    ),
    ("requantised", ALL, faults.pair_behind_a_pair, "stem.again.q", "quantises what .* has just dequantised"),
    (
        "concat",
        ALL,
        faults.stream_on_its_own_scale,
        "both",
        r"joins 'right.relu', on scale 0\.001, into 'both', on scale 0\.02",
    ),
    ("concat-input", TENSORRT, faults.stream_past_its_pair, "both", r"reads 'right.relu' in float, .* on scale 0\.001"),
    ("max-pool", ALL, faults.pool_with_two_scales, "pool", r"has scale 0\.02 before it and scale 0\.03 behind it"),
    ("max-pool", ALL, faults.pool_read_twice, "pool", r"has scale 0\.02 before it and scale 0\.03 behind it"),
    (
        "same-scale",
        ALL,
        faults.slice_with_two_scales,
        "pool",
        r"Slice node 'pool' has scale 0\.02 before .* scale 0\.03",
    ),
    (
        "residual-add",
        TENSORRT,
        faults.both_branches,
        "sum",
        "both quantised; .* Remove the pair between Conv node 'inner'",
    ),
    ("residual-add", ("cpu",), faults.float_branch, "sum", "adds 'stem.relu' in float to a quantised branch"),
    ("residual-identity", TENSORRT, faults.neither_branch, "sum", "two branches of which none is quantised"),
    ("conv-relu", ALL, faults.pair_before_the_relu, "left", "'left.dq.q' comes between Conv node 'left' and its Relu"),
    ("conv-relu", ALL, faults.normalisation, "late", "BatchNormalization node 'late.bn' comes between .* Fold it"),
    ("conv-relu", ALL, faults.affine, "late", "Mul node 'late.mul' comes between .* and its Relu node .* Fold it"),
    (
        "weights-alone",
        ALL,
        faults.float_values,
        "left",
        r"quantised weights, but what it reads is in float \('stem.relu'\)",
    ),
    ("quantised-once", ALL, faults.second_pair, "stem.again.q", "'stem.relu' is quantised 2 times with the same scale"),
    ("last-layer", ALL, faults.last_layer, "y|last", "is the last layer of a head and is quantised"),
    ("last-layer", ALL, faults.quantised_result, "y|last", "is the last layer of a head and has its result quantised"),
    ("few-channels", ALL, faults.narrow, "right", "has 16 channels in and 4 out"),
    ("zero-weights", ALL, faults.channels_of_zeros, "right.w", "nothing but zeros in 2 of 16 output channels"),
    ("zero-weights", ALL, faults.nothing_but_zeros, "right.w", "has nothing but zeros:"),
    ("small-scale", ("tensorrt",), faults.tiny_scale, "right.w", "a scale of 2e-05 in FP16, below its smallest normal"),
    ("saturation", ("cpu",), faults.full_range, "", "1 of 5 quantised layers use weights beyond 64: .* VNNI"),
]
ALSO = {  # what else a fault breaks, unavoidably
    faults.without_pairs: {"opset"},
    faults.scale_of_zero: {"int32-scaled-bias"},
    faults.one_scale_for_all_weights: {"int32-scaled-bias"},
    faults.scales_in_fp16: {"int32-scaled-bias"},
    faults.bias_off_zero: {"zero-point"},
    faults.pool_read_twice: {"fuses"},
    faults.normalisation: {"fuses"},
    faults.affine: {"fuses"},
    faults.last_layer: {"fuses"},
    faults.narrow: {"int32-scaled-bias"},
}


@pytest.mark.parametrize(
    ("rule", "target", "plant", "node", "message"),
    [(rule, target, *rest) for rule, targets, *rest in CASES for target in targets],
    ids=lambda value: value.__name__ if callable(value) else value if value in (*ALL,) else "",
)
def test_a_broken_rule_is_found_with_its_node(
    rule: str, target: Target, plant: faults.Plant, node: str, message: str
) -> None:
    model = sound(target)
    plant(model)

    found = lint(model, target)

    of_rule = [finding for finding in found if finding.rule == rule]
    assert of_rule, found
    assert re.fullmatch(node, of_rule[0].node)
    assert re.search(message, of_rule[0].message), of_rule[0].message
    assert "\n" not in of_rule[0].message
    assert of_rule[0].message.endswith(".")
    levels = {entry.level for entry in RULES if entry.name == rule and target in entry.targets}
    assert {finding.level for finding in of_rule} == levels
    assert {finding.rule for finding in found} - {rule} <= ALSO.get(plant, set())


def test_every_rule_is_broken_once_for_each_of_its_targets() -> None:
    tried = {(rule, target) for rule, targets, *_ in CASES for target in targets}

    assert tried == {(rule.name, target) for rule in RULES for target in rule.targets}
