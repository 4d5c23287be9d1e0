"""The GPU steps of `benchmarks/gpu.py`: on a simulated GPU, and with workers whose times are known."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from gpu_steps import agreement, build, floor, passes, report, tables, video
from gpu_steps.aims import aims
from gpu_steps.plan import steps
from gpu_steps.work import Work
from simulated.simulate import simulate

from nddr_deploy.benchmark.process import Worker
from nddr_deploy.errors import UnsupportedError


def record(work: Work, step: str, found: tuple[dict[str, Any], list[Path]]) -> dict[str, Any]:
    """Keep a result as the command does, through JSON."""
    work.keep(step, "key", seconds=1.0, result=found[0], files=found[1])
    return work.result(step) or {}


@pytest.mark.parametrize("version", ["8.6", "10.13"])
def test_engines_are_built_compared_and_run_on_a_video(real: Work, version: str) -> None:
    with simulate(version) as machine:
        built = {
            variant: record(real, f"build.resnet18.{variant}", build.run(real, "resnet18", variant))
            for variant in ("fp32", "fp16", "int8", "fp16-merged")
        }
        agrees = record(real, "agreement.resnet18", agreement.run(real, "resnet18", ["fp16", "int8", "fp32"]))
        ran = record(real, "video.resnet18", video.run(real, "resnet18", "fp16"))
        name = machine.gpu.kind.name

    assert [found["precision"] for found in built.values()] == ["fp32", "fp16", "int8", "fp16"]
    assert all(found["gpu"] == name and found["parity"]["passed"] for found in built.values())
    assert agrees["engines"]["fp32"]["labels_equal"] > 0.999  # float32 sums in another order
    assert agrees["engines"]["fp16"]["labels_equal"] > 0.97
    assert 0.8 < agrees["engines"]["int8"]["labels_equal"] < agrees["engines"]["fp16"]["labels_equal"]
    assert (ran["engine"], ran["precision"], ran["frames"]) == ("tensorrt", "fp16", 12)
    assert set(ran["alone_fps"]) == {"source", "fit", "read", "engine", "infer", "write"}
    report_ = report.collect(real, steps(dry_run=False))
    assert report_["gpu"]["name"] == name
    text = tables.markdown(report_)
    assert text.startswith(f"# benchmarks/gpu.py on {name}\n")
    assert "| int8 |" in text
    assert "- passes.resnet18: not run yet" in text


def test_a_build_for_a_number_of_streams_asks_for_it(real: Work) -> None:
    with simulate("10.13"):
        about, _ = build.run(real, "resnet18", "fp16-aux2")

    assert about["options"]["aux-streams"] == 2


class FakeWorker:
    """Answers as a worker would; each contender has a time of its own, and one cannot run here."""

    compute_s: ClassVar[dict[str, float]] = {}
    turns: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, name: str, **_: Any) -> None:
        self.name = name

    def ask(self, order: str, **values: Any) -> dict[str, Any]:
        if self.name not in self.compute_s:
            raise UnsupportedError(f"no {self.name} here")
        self.turns.append((order, self.name))
        compute = self.compute_s[self.name]
        return {
            "open": {"precision": "fp16"},
            "measure_gpu": {
                "h2d_s": [1e-4] * 3,
                "enqueue_s": [1e-5] * 3,
                "compute_s": [compute, compute, 2 * compute],
                "d2h_s": [2e-4] * 3,
            },
            "measure_stream": {"images": 10, "wall_s": 10 * compute},
            "measure": {"wall_s": [compute + 3e-4] * 3, "cpu_s": [1e-3] * 3},
        }[order]

    def close(self) -> None:
        pass


@pytest.fixture
def measured(real: Work, monkeypatch: pytest.MonkeyPatch) -> Work:
    """ResNet-18 measured: FP16 takes 4 ms, INT8 3.5, torch.compile 10, eager 20; the floor is a GPU's of 100 T/s."""
    times = {"torch eager fp16": 0.02, passes.COMPILE: 0.01, "tensorrt fp16": 0.004, "tensorrt int8": 0.0035}
    monkeypatch.setattr(passes, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "compute_s", times)
    monkeypatch.setattr(FakeWorker, "turns", [])
    kernel = {"backend": "torch-cuda", "kernel": "matrix"}
    rates = {"fp16": {"flops_per_s": 1e14, **kernel}, "int8": {"flops_per_s": 2e14, **kernel}}
    copies = {"h2d": 5e10, "d2h": 5e10, "d2d": 1e12}
    record(real, "floor", ({"gpu": {"name": "GPU of a test"}, "rates": rates, "copies": copies}, []))
    for variant in ("fp16", "int8"):
        values = {"gpu": "GPU of a test", "compute_capability": "9.0", "tensorrt": "8.6.0", "build_s": 1.0, "bytes": 1}
        values |= {"parity": {"heads": []}, "kept_fp32": [], "realised": {"counts": {variant: 9}}}
        values |= {"usual_parity": {"segmentation": variant == "fp16"}, "layers_s": 0.004, "kernels_adding_in_fp16": 3}
        values |= {"kernels_adding_in_fp32": 5, "slowest_layers": [{"name": "heads.x/Conv", "s": 0.001}]}
        record(real, f"build.resnet18.{variant}", (values, []))
    record(real, "passes.resnet18", passes.run(real, "resnet18"))
    return real


def test_contenders_take_turns_and_one_that_cannot_run_is_named(measured: Work) -> None:
    found = measured.result("passes.resnet18") or {}

    names = ["torch eager fp16", "torch.compile fp16", "tensorrt fp16", "tensorrt int8"]
    asked = [name for order, name in FakeWorker.turns if order == "measure_gpu"]
    assert asked == names * measured.settings.rounds
    assert list(found["rows"]) == names
    assert found["not_run"]["onnxruntime CUDA fp16"] == "no onnxruntime CUDA fp16 here"
    assert "tensorrt fp32" not in found["not_run"]  # it was not built, which is told there


def test_times_become_ratios_and_multiples_of_the_floor(measured: Work) -> None:
    found = measured.result("passes.resnet18") or {}
    flops = (measured.result("export.resnet18") or {})["flops"]

    over = found["speedups"]["tensorrt fp16 over torch.compile fp16"]
    row = found["rows"]["tensorrt fp16"]["gpu"]
    assert over["compute"]["median"] == pytest.approx(10 / 4)
    assert over["one by one"]["median"] == pytest.approx(10.3 / 4.3)
    assert row["floor_multiple"] == pytest.approx(0.004 * 1e14 / flops)
    assert row["images_per_s"]["median"] == pytest.approx(250)
    assert row["bottleneck"] == "compute"


def test_aims_are_met_or_not_by_measurement_and_what_falls_short_is_explained(measured: Work) -> None:
    record(measured, "agreement.resnet18", ({"pictures": 2, "engines": {"fp16": agreeing(0.9961)}}, []))

    found = {aim.text: aim for aim in aims(measured, {"passes.deeplab": "not run yet"})}

    fp16 = found["dilated ResNet-18 pair: FP16 engine at least 2 times torch.compile FP16 channels-last"]
    int8 = found["dilated ResNet-18 pair: INT8 engine at least 1.3 times FP16"]
    labels = found["dilated ResNet-18 pair: FP16 labels equal PyTorch's FP32 labels at 99.5% of the pixels or more"]
    deeplab = found["Deeplab-VGG-16 pair: INT8 engine at least 1.3 times FP16"]
    assert (fp16.verdict, labels.verdict, int8.verdict) == ("met", "met", "NOT met")
    assert fp16.shown.startswith("compute 2.50 (2.50-2.50)")
    assert int8.why.startswith("tensorrt int8: bound by compute: 3.500 ms of work")
    assert (deeplab.verdict, deeplab.why) == ("not measured", "not run yet")


def agreeing(share: float) -> dict[str, float]:
    return {"labels_equal": share, "labels_equal_worst_picture": share, **dict.fromkeys(
        ("degrees_mean", "degrees_median", "degrees_p99"), 0.1
    )}  # fmt: skip


def test_the_table_tells_what_was_measured(measured: Work) -> None:
    names = ["fp16", "fp16-aux0"]
    FakeWorker.compute_s["tensorrt fp16-aux0"] = 0.005
    for name in names:
        measured.keep(f"build.resnet18.{name}", "key", seconds=1.0, result=measured.result("build.resnet18.fp16"))
    record(measured, "variants.resnet18", passes.run_variants(measured, "resnet18"))

    text = tables.markdown(report.collect(measured, steps(dry_run=False)))

    assert text.startswith("# benchmarks/gpu.py on GPU of a test\n")
    assert "| tensorrt fp16 over torch.compile fp16 | 2.50 (2.50-2.50) | 2.40 (2.40-2.40) | 2.50 (2.50-2.50) |" in text
    assert "| tensorrt int8 over tensorrt fp16 | 1.14 (1.14-1.14) |" in text
    assert "- onnxruntime CUDA fp16: not run: no onnxruntime CUDA fp16 here" in text
    assert "| tensorrt fp16-aux0 over tensorrt fp16 | 0.80 (0.80-0.80) |" in text
    assert "- passes.deeplab: not run yet" in text
    assert "fp16: slowest layers, alone, in ms: `heads.x/Conv` 1.000 (25%). 3 kernels add in FP16, 5 in FP32.\n" in text
    assert "int8: " in text
    assert "in FP32. nddr-build would refuse it for segmentation." in text


def test_compiling_opens_the_compiled_case_and_closes_it_again(measured: Work) -> None:
    FakeWorker.turns.clear()

    assert passes.run_compile(measured, "resnet18") == ({}, [])
    assert FakeWorker.turns == [("open", passes.COMPILE)]


def test_nothing_that_runs_is_an_error(real: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "compute_s", {})

    with pytest.raises(UnsupportedError, match="Nothing of deeplab can be measured here"):
        passes.run(real, "deeplab")


def test_workers_run_under_the_interpreter_that_has_their_library(real: Work) -> None:
    work = Work(real.folder, replace(real.settings, python_torch="/with/torch", python_trt="/with/trt"))
    record(work, "build.resnet18.fp16", ({}, []))

    assert {contender.python for contender in passes.peers(work, "resnet18")} == {"/with/torch"}
    [ours] = passes.engines(work, "resnet18", ["fp16", "int8"])
    assert (ours.name, ours.python) == ("tensorrt fp16", "/with/trt")


def test_a_worker_runs_under_the_interpreter_that_it_is_given(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)

    with Worker("case", threads=1, python=str(python)) as worker:
        assert worker.ask("memory")["bytes"] >= 0

    assert (tmp_path / "called").read_text() == "-m nddr_deploy.benchmark.worker\n"


def test_angles_are_exact_where_an_arc_cosine_rounds() -> None:
    small = np.radians(1e-3)
    one = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    other = np.array([[np.sin(small), 0.0, np.cos(small)], [0.0, 1.0, 0.0]])

    np.testing.assert_allclose(agreement.angles(one, other), [1e-3, 90], rtol=1e-9)


def test_tf32_is_measured_and_switched_back() -> None:
    import torch

    before = torch.backends.cuda.matmul.allow_tf32

    [rate] = floor.tf32("cpu", [64])

    assert (rate.precision, rate.kernel) == ("tf32", "matrix 64x64x64")
    assert rate.flops_per_s > 0
    assert torch.backends.cuda.matmul.allow_tf32 == before
