"""Figures are what a person would compute from the same measurements."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nddr_deploy.benchmark import figures
from nddr_deploy.benchmark.cases import parse_cases
from nddr_deploy.benchmark.report import FloorRate
from nddr_deploy.benchmark.timing import Percentiles, Spread, ratios, time_passes
from nddr_deploy.errors import ConfigError

MODEL, CHECKPOINT = Path("model.onnx"), Path("ckpt.pt")


def test_a_ratio_compares_the_medians_within_each_round() -> None:
    # the machine was half as fast in the second round, for both
    base = [[4.0, 4.0, 9.0], [8.0, 8.0, 8.0], [4.4, 4.4, 4.4]]
    other = [[2.0, 2.0, 2.0], [4.0, 4.0, 4.0], [2.0, 2.0, 7.0]]

    assert ratios(base, other) == Spread(median=2.0, min=2.0, max=pytest.approx(2.2))


def test_percentiles_are_over_all_passes() -> None:
    found = Percentiles.of([float(value) for value in range(101)])

    assert (found.p50, found.p90, found.p99, found.passes) == (50, 90, 99, 101)


def test_the_first_pass_of_a_round_is_not_measured_and_one_always_is() -> None:
    calls: list[float] = []

    passes = time_passes(lambda: calls.append(0), seconds=0)

    assert len(calls) == 2
    assert len(passes.wall_s) == len(passes.cpu_s) == 1


def test_waiting_counts_on_the_clock_and_not_as_processor_time() -> None:
    passes = time_passes(lambda: time.sleep(0.05), seconds=0)

    assert passes.wall_s[0] >= 0.05
    assert passes.cpu_s[0] < 0.04


def test_one_thread_s_figures_follow_from_processor_time_and_arithmetic() -> None:
    answers = [
        [{"cpu_s": [0.4], "wall_s": [9.0]}, {"cpu_s": [0.4], "wall_s": [9.0]}],
        [{"cpu_s": [0.1], "wall_s": [9.0]}, {"cpu_s": [0.1], "wall_s": [9.0]}],
    ]

    found = figures.one_thread(answers, 1, flops=10**10, floor=FloorRate(2e11, "onnxruntime", "kernel"))

    assert found.speedup.median == pytest.approx(4)
    assert found.flops_per_s == pytest.approx(1e11)
    assert found.floor_multiple == pytest.approx(2)  # 0.1 s where 10 GFLOP take 0.05 s at 200 GFLOP/s
    assert figures.one_thread(answers, 1, flops=10**10, floor=None).floor_multiple is None


def test_throughput_counts_the_images_of_a_batch() -> None:
    answers = [[{"cpu_s": [9.0, 9.0], "wall_s": [0.5, 0.5]}]]

    assert figures.all_cores(answers, 0, batch=3).images_per_s == pytest.approx(6)


def test_end_to_end_is_per_frame() -> None:
    fast = {"frames": 10, "wall_s": 1.0, "busy_s": {"engine": 0.5, "decode": 0.2}}
    slow = {"frames": 10, "wall_s": 2.0, "busy_s": {"engine": 1.5, "decode": 0.2}}

    found = figures.end_to_end([[slow, slow], [fast, fast]], 1)

    assert found.frames_per_s.median == pytest.approx(10)
    assert found.speedup.median == pytest.approx(2)
    assert found.busy_s == pytest.approx({"engine": 0.05, "decode": 0.02})


def test_the_difference_is_the_largest_of_any_head_over_its_range() -> None:
    first: dict[str, Any] = {"depth": np.float32([0, 5, 10]), "labels": np.uint8([1, 2, 3, 4])}

    assert figures.difference(first, first) == 0
    assert figures.difference(first, {**first, "depth": np.float32([0, 5, 9])}) == pytest.approx(0.1)
    assert figures.difference(first, {**first, "labels": np.uint8([1, 2, 3, 0])}) == pytest.approx(0.25)


def test_case_names_say_runtime_and_precision() -> None:
    names = ["torch", "torch.compile", "torch:bf16", "onnxruntime", "openvino:bf16"]

    cases = parse_cases(names, model=MODEL, checkpoint=CHECKPOINT)

    assert [case.label for case in cases] == [
        "torch fp32",
        "torch.compile fp32",
        "torch bf16",
        "onnxruntime fp32",
        "openvino bf16",
    ]
    assert [case.path for case in cases] == [CHECKPOINT] * 3 + [MODEL] * 2
    assert [case.compiled for case in cases] == [False, True, False, False, False]


def test_a_quantised_file_s_cases_are_int8_and_the_checkpoint_s_stay_fp32() -> None:
    cases = parse_cases(["torch", "openvino"], model=MODEL, checkpoint=CHECKPOINT, precision="int8")

    assert [case.label for case in cases] == ["torch fp32", "openvino int8"]


def test_cases_in_int8_run_the_quantised_file_and_the_others_the_model() -> None:
    names = ["onnxruntime", "openvino:int8", "openvino:int8+bf16", "openvino:bf16"]

    cases = parse_cases(names, model=MODEL, checkpoint=None, precision="fp32", int8=Path("int8.onnx"))

    assert [case.path.name for case in cases] == [MODEL.name, "int8.onnx", "int8.onnx", MODEL.name]


@pytest.mark.parametrize(
    ("names", "checkpoint", "sentence"),
    [
        (["onnx"], None, "'onnx' is unknown"),
        (["openvino:bfloat16"], None, "'bfloat16' is unknown"),
        (["openvino:"], None, "'' is unknown"),
        (["torch"], None, "runs the checkpoint, and none was given. Add --checkpoint"),
        (["openvino", "openvino:fp32"], None, "openvino fp32 is there twice"),
        ([], None, "names no case"),
    ],
)
def test_a_wrong_case_is_one_sentence(names: list[str], checkpoint: Path | None, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_cases(names, model=MODEL, checkpoint=checkpoint)
