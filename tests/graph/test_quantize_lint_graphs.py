"""The rules for quantised graphs against ONNX Runtime itself, and on graphs that others wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import lint_faults as faults
import numpy as np
import onnx
import onnxruntime
import pytest
from graph_subjects import exported, quantised, ranges_of, run
from lint_subjects import insert_after, node_of, put, sound, weight_of
from onnx import helper

from nddr_deploy.errors import ConfigError, ModelFileError, UnsupportedError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph import lint_places, placement
from nddr_deploy.graph.calibration import calibrate
from nddr_deploy.graph.fp16 import to_fp16
from nddr_deploy.graph.quantize import observed, quantize
from nddr_deploy.graph.quantize_lint import TARGETS, Finding, lint


def fused_convolutions(model: onnx.ModelProto, folder: Path) -> int:
    """How many integer convolutions ONNX Runtime makes of a graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return sum(node.op_type == "QLinearConv" for node in onnx.load(folder / "optimised.onnx").graph.node)


def test_onnx_runtime_computes_every_layer_of_a_sound_graph_in_int8(tmp_path: Path) -> None:
    assert fused_convolutions(sound("cpu"), tmp_path) == 5


@pytest.mark.parametrize(
    "plant",
    [
        *(
            faults.signed_values,
            faults.scales_for_an_activation,
            faults.bias_scale_of_the_weights_alone,
            faults.bias_off_zero,
            faults.bias_of_8_bits,
        ),
        *(
            faults.second_reader,
            faults.result_in_float,
            faults.relu_off_the_grid,
            faults.clip_inside_the_grid,
            faults.normalisation,
            faults.affine,
            faults.float_values,
        ),
    ],
    ids=lambda plant: plant.__name__,
)
def test_onnx_runtime_computes_fewer_layers_in_int8_where_the_rules_say_so(plant: faults.Plant, tmp_path: Path) -> None:
    model = sound("cpu")
    plant(model)

    assert {finding.level for finding in lint(model, "cpu")} == {"error"}
    assert fused_convolutions(model, tmp_path) < 5


def test_beside_a_signed_stream_one_behind_a_relu_keeps_its_own_zero_point(tmp_path: Path) -> None:
    """With the stream's, its ReLU would not vanish in the grid, and its convolution would stay in float."""
    model = sound("cpu")
    put(model, both__zero=np.uint8(128), both__scale=0.04)
    put(model, fusion__b__scale=weight_of(model, "fusion.w.scale") * np.float32(0.04))

    assert lint(model, "cpu") == ()
    assert fused_convolutions(model, tmp_path) == 5

    put(model, right__relu__zero=np.uint8(128), right__relu__scale=0.04)
    assert errors(lint(model, "cpu")) == {"relu-in-grid"}
    assert fused_convolutions(model, tmp_path) == 4


def test_a_wrong_bias_scale_is_fused_all_the_same_and_changes_the_results() -> None:
    """So the values have to be checked: ONNX Runtime takes an int32 bias to be on the grid of the products."""
    model = sound("cpu")
    wrong = sound("cpu")
    scale = weight_of(wrong, "left.b.scale")
    put(wrong, left__b__scale=scale * np.float32(1.009))

    assert [finding.rule for finding in lint(wrong, "cpu")] == ["int32-scaled-bias"]
    images = probe_images((8, 10), 1)
    np.testing.assert_array_equal(run(wrong)(images)["y"], run(model)(images)["y"])  # 0.9 % of each bias are lost


# Foreign graphs


def test_what_onnx_runtime_quantises_for_one_target_is_not_for_the_other() -> None:
    for_cpu, for_tensorrt = quantised(form_of="CPU"), quantised()

    assert {"int32-bias", "integer-type", "zero-point"} <= errors(lint(for_cpu, "tensorrt8"))
    assert {"int32-scaled-bias", "integer-type", "fuses"} <= errors(lint(for_tensorrt, "cpu"))
    assert errors(lint(for_tensorrt, "tensorrt8")) == set()
    assert errors(lint(for_cpu, "cpu")) == {"conv-relu"}  # it puts a pair before every ReLU


@pytest.mark.parametrize(("form", "tasks"), [("vgg", 2), ("resnet", 2), ("resnet 18", 3), ("alexnet", 3)])
def test_what_we_quantise_is_sound_for_its_target(form: str, tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    size_hw = (131, 163) if form == "alexnet" else (65, 97)
    for module in (placement, lint_places):
        monkeypatch.setattr(module, "FEWEST_CHANNELS", 2)  # these networks are narrow
    model = exported(form, tasks=tasks, size_hw=size_hw)
    images = probe_images(size_hw, 1)

    for target in TARGETS:
        ranges = calibrate(model, observed(model, target), [images], run)
        written = quantize(model, ranges, target).model
        if target == "tensorrt":
            written = to_fp16(written, ranges_of(written, [images])).model
        assert errors(lint(written, target)) == set()
        # Some random weights are too small for FP16; on a CPU, a ReLU's stream keeps its grid beside a signed one.
        rest = {"cpu": {"saturation", "concat"}, "tensorrt": {"zero-weights"}, "tensorrt8": set()}[target]
        assert {finding.rule for finding in lint(written, target)} <= rest


def test_the_fp16_form_of_a_graph_is_for_tensorrt_10_and_the_fp32_form_for_8() -> None:
    model = quantised()
    half = to_fp16(model, ranges_of(model, [probe_images((65, 97), 1)])).model

    assert errors(lint(model, "tensorrt")) == {"opset", "float-type"}
    assert errors(lint(half, "tensorrt")) == set()
    assert not [finding for finding in lint(half, "tensorrt") if finding.rule == "left-in-fp32"]
    assert {"opset", "float-type"} <= errors(lint(half, "tensorrt8"))


def test_weights_may_be_quantised_in_the_graph_and_scales_stand_in_constant_nodes() -> None:
    model = sound("tensorrt8")
    values = weight_of(model, "left.w.int8") * weight_of(model, "left.w.scale")[:, None, None, None]
    values[4] = 0
    put(model, left__w__float=values.astype(np.float32))
    node = node_of(model, "left.w")
    node.input[0] = "left.w.q"
    before = helper.make_node("QuantizeLinear", ["left.w.float", *node.input[1:]], ["left.w.q"], axis=0)
    insert_after(model, "x", before)
    scale = next(weight for weight in model.graph.initializer if weight.name == "stem.relu.scale")
    model.graph.initializer.remove(scale)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["stem.relu.scale"], value=scale))

    found = lint(model, "tensorrt8")

    assert [finding.rule for finding in found] == ["zero-weights"]
    assert "zeros in 1 of 16 output channels" in found[0].message


def test_nodes_without_names_are_named_by_what_they_make() -> None:
    model = sound("cpu")
    faults.float_bias(model)
    for node in model.graph.node:
        node.name = ""

    assert [finding.node for finding in lint(model, "cpu")] == ["left"]


def test_errors_come_before_warnings() -> None:
    model = sound("cpu")
    for plant in (faults.channels_of_zeros, faults.second_pair, faults.float_bias):
        plant(model)

    assert [finding.level for finding in lint(model, "cpu")] == ["error", "warning", "warning"]


def test_graphs_that_are_not_flat_are_refused() -> None:
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["r"])], "branch", [], [])
    model = sound("cpu")
    insert_after(model, "x", helper.make_node("If", ["x"], ["either"], then_branch=branch, else_branch=branch))
    with pytest.raises(UnsupportedError, match="holds a graph of its own"):
        lint(model, "cpu")
    model = sound("cpu")
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")
    with pytest.raises(ModelFileError, match="is in another file"):
        lint(model, "cpu")


def test_an_unknown_target_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"target: 'gpu' is unknown\. Choose one of: cpu, tensorrt, tensorrt8"):
        lint(sound("cpu"), cast(Any, "gpu"))


def errors(found: tuple[Finding, ...]) -> set[str]:
    return {finding.rule for finding in found if finding.level == "error"}
