"""FP16 and BF16 on a CPU: run where they were asked for and can be had, and refused in a sentence elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nddr_deploy.engines import open_engine
from nddr_deploy.engines import openvino as backend
from nddr_deploy.engines.openvino import compile_model, realised_precisions
from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.errors import UnsupportedError
from nddr_deploy.graph.fp16 import to_fp16
from nddr_deploy.graph.metadata import manifest_of, read_model, write_manifest
from nddr_deploy.graph.ranges import scan_ranges


def needs(kind: str) -> pytest.MarkDecorator:
    able = backend.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return pytest.mark.skipif(kind not in able, reason=f"this processor has no {kind} that OpenVINO uses")


def difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest over the heads, of the head's range."""
    return max(float(np.abs(found[name] - expected[name]).max() / np.ptp(expected[name])) for name in expected)


def results(path: Path, images: Any, **options: Any) -> dict[str, Any]:
    with open_engine(path, **{"backend": "openvino", "threads": 1, **options}) as engine:
        return engine.infer(images)


@pytest.fixture(scope="module")
def half(exported: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network in FP16, as nddr-build --graph writes it."""
    path = tmp_path_factory.mktemp("half") / "fp16.onnx"
    onnx.save(in_fp16(read_model(exported.path), exported.images()), path)
    return path


@pytest.fixture(scope="module")
def quantised(exported: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import engine_subjects

    return engine_subjects.quantise(exported, tmp_path_factory.mktemp("quantised") / "int8.onnx")


def in_fp16(model: onnx.ModelProto, images: Any) -> onnx.ModelProto:
    ranges = scan_ranges(model, lambda content: run_bytes(content, threads=1), [images])
    return to_fp16(model, ranges).model


# FP16


@needs("FP16")
def test_half_precision_is_used_where_it_is_asked_for(trained: Any, exported: Any) -> None:
    images = trained.images(seed=7)
    expected = trained.expected(images)

    with open_engine(exported.path, "openvino", threads=1, precision="fp16") as engine:
        outputs = engine.infer(images)

    assert engine.precision == "fp16"
    assert all(output.dtype == np.float32 for output in outputs.values())
    assert 1e-4 < difference(outputs, expected) < 1e-2  # really FP16 (FP32 is below 1e-5), and 3 bits more than BF16


@needs("FP16")
def test_a_file_in_half_precision_runs_in_it(trained: Any, half: Path) -> None:
    images = trained.images(seed=7)

    with open_engine(half, "openvino", threads=1) as engine:
        outputs = engine.infer(images)

    assert engine.precision == "fp16"
    assert 1e-4 < difference(outputs, trained.expected(images)) < 1e-2
    assert realised_precisions(compile_model(half, "fp16", threads=1, as_written=True)) == ["fp16"]
    with pytest.raises(UnsupportedError, match=r"cannot run this fp16 file in fp32\. Possible: fp16\."):
        open_engine(half, "openvino", precision="fp32")


@needs("FP16")
def test_what_a_file_in_half_precision_keeps_in_float32_runs_in_it(
    handmade: Callable[..., Any], tmp_path: Path
) -> None:
    """One of three convolutions makes values far beyond 65504, so `to_fp16` leaves it alone."""
    subject = handmade()
    images = subject.images()
    loud = onnx.load(subject.path)
    weight = next(weight for weight in loud.graph.initializer if weight.name == "age.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1e6), "age.weight"))
    manifest = manifest_of(loud, source="loud")
    mixed = in_fp16(loud, images)
    write_manifest(mixed, manifest)
    onnx.save(mixed, tmp_path / "mixed.onnx")
    onnx.save(loud, tmp_path / "loud.onnx")
    expected = subject.expected(images)

    kept = results(tmp_path / "mixed.onnx", images)
    converted = results(tmp_path / "loud.onnx", images, precision="fp16")

    np.testing.assert_allclose(kept["age"], 1e6 * expected["age"], rtol=2e-3)  # its input is rounded to 11 bits
    assert np.isinf(converted["age"]).any()  # as the whole file in FP16 does
    compiled = compile_model(tmp_path / "mixed.onnx", "fp16", threads=1, as_written=True)
    assert realised_precisions(compiled) == ["fp16", "fp32"]


def test_onnx_runtime_refuses_half_precision_and_says_what_it_would_do(exported: Any, half: Path) -> None:
    for path in (exported.path, half):
        with pytest.raises(UnsupportedError, match=r"in fp16\. Possible: .* FP32 between casts, .* OpenVINO has FP16"):
            open_engine(path, "onnxruntime", precision="fp16")
    with pytest.raises(UnsupportedError, match=r"in bf16\. Possible: fp32\. It has no BF16 arithmetic; OpenVINO has"):
        open_engine(exported.path, "onnxruntime", precision="bf16")


def test_what_onnx_runtime_is_refused_for_is_so(half: Path, tmp_path: Path) -> None:
    """It casts the weights of every convolution back to FP32. Where this fails, it has learned FP16."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(half), options, providers=["CPUExecutionProvider"])

    graph = onnx.load(tmp_path / "optimised.onnx").graph
    halves = {weight.name for weight in graph.initializer if weight.data_type == onnx.TensorProto.FLOAT16}
    to_half = {node.output[0] for node in graph.node if node.op_type == "Cast" and node.attribute[0].i == 10}
    assert not [node.name for node in graph.node if node.op_type == "Conv" and (halves | to_half) & {*node.input}]


# BF16 beside int8


@needs("BF16")
def test_a_quantised_file_runs_its_other_layers_in_bfloat16_where_that_is_asked_for(
    trained: Any, quantised: Path
) -> None:
    images = trained.images(seed=7)
    plain = results(quantised, images)

    with open_engine(quantised, "openvino", threads=1, precision="int8+bf16") as engine:
        mixed = engine.infer(images)

    assert engine.precision == "int8+bf16"
    assert set(realised_precisions(compile_model(quantised, "int8+bf16", threads=1))) == {"int8", "bf16"}
    assert set(realised_precisions(compile_model(quantised, "int8", threads=1))) == {"int8", "fp32"}
    assert 1e-4 < difference(mixed, plain) < 0.1
    # Rounding to 8 bits comes on top of rounding to integers, and adds little to it.
    expected = trained.expected(images)
    assert difference(mixed, expected) < 2 * difference(plain, expected)


def test_a_quantised_file_is_not_run_in_bfloat16_alone_and_no_other_file_in_both(
    exported: Any, quantised: Path
) -> None:
    with pytest.raises(UnsupportedError, match=r"this int8 file in bf16\. Possible: int8 or int8\+bf16\."):
        open_engine(quantised, "openvino", precision="bf16")
    with pytest.raises(UnsupportedError, match=r"this fp32 file in int8\+bf16\. Possible: fp32 or bf16 or fp16\."):
        open_engine(exported.path, "openvino", precision="int8+bf16")
    with pytest.raises(UnsupportedError, match=r"this int8 file in int8\+bf16\. Possible: int8\. It has no BF16"):
        open_engine(quantised, "onnxruntime", precision="int8+bf16")


# Processors that lack them


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("bf16", r"no bf16 arithmetic that OpenVINO uses \(it has FP32, INT8\)\. Ask for fp32"),
        ("fp16", r"no fp16 arithmetic that OpenVINO uses \(it has FP32, INT8\)\. Ask for fp32"),
        ("int8+bf16", r"no bf16 arithmetic that OpenVINO uses \(it has FP32, INT8\)\. Ask for int8"),
    ],
)
def test_a_processor_without_the_precision_is_named(
    exported: Any, quantised: Path, monkeypatch: pytest.MonkeyPatch, precision: str, message: str
) -> None:
    class OldProcessor:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(backend, "core", OldProcessor)

    with pytest.raises(UnsupportedError, match=message):
        open_engine(quantised if "int8" in precision else exported.path, "openvino", precision=precision)


@pytest.mark.parametrize(
    ("asked", "realised", "right"),
    [
        ("fp32", ["fp32"], True),
        ("fp32", [], True),
        ("fp16", ["fp16", "fp32"], True),
        ("fp16", ["fp32", "fp16"], False),
        ("bf16", ["fp32"], False),
        ("int8", ["fp32", "int8"], True),
        ("int8", ["fp32"], False),
        ("int8+bf16", ["int8", "bf16"], True),
        ("int8+bf16", ["bf16", "int8", "fp32"], True),
        ("int8+bf16", ["int8"], True),
        ("int8+bf16", ["int8", "fp32"], False),
        ("int8+bf16", ["bf16"], False),
    ],
)
def test_what_layers_really_run_in_is_held_against_what_was_asked_for(
    asked: str, realised: list[str], right: bool
) -> None:
    assert backend._as_asked(asked, realised) is right
