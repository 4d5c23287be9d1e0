"""Cases on a GPU: figures that a person can redo, what bounds them, and which files they need."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_gpu
import numpy as np
import onnx
import pytest
from fake_gpu import FakeFloor, LocalWorker, NoFloor, write_plan
from PIL import Image

from nddr_deploy.benchmark import __main__ as command
from nddr_deploy.benchmark import bottleneck, figures, run, table, turns, worker
from nddr_deploy.benchmark.cases import default_gpu, parse_cases
from nddr_deploy.benchmark.report import FloorRate
from nddr_deploy.benchmark.run import choose_cases, run_benchmark
from nddr_deploy.benchmark.subject import Subject
from nddr_deploy.benchmark.timing import keep_busy, time_gpu_passes, time_stream
from nddr_deploy.engines import cuda
from nddr_deploy.engines import table as engine_table
from nddr_deploy.engines.base import PassTimes
from nddr_deploy.engines.cuda import Gpu
from nddr_deploy.errors import ConfigError, ModelFileError, UnsupportedError
from nddr_deploy.graph.metadata import read_manifest, read_model, write_manifest

MODEL, CHECKPOINT, PLAN = Path("model.onnx"), Path("ckpt.pt"), Path("model.trt")
QUICK: dict[str, Any] = {"rounds": 2, "seconds_per_case": 0.02, "threads": 1}
CASES = ["onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with a GPU whose engines are `fake_gpu`'s."""
    for backend, name in zip(CASES, ("FakeOrtCuda", "FakeOrtTensorRT", "FakeTensorRT"), strict=True):
        monkeypatch.setitem(engine_table.BACKENDS, backend, f"fake_gpu:{name}")
    monkeypatch.setattr(cuda, "count_gpus", lambda: 1)
    monkeypatch.setattr(run, "describe_gpu", lambda: Gpu("NVIDIA H100", "9.0", 80 << 30, "12.8"))
    monkeypatch.setattr(turns, "Worker", LocalWorker)
    monkeypatch.setattr(worker, "WAKE_S", 0.0)
    plain = worker.optional.load
    monkeypatch.setattr(
        worker.optional,
        "load",
        lambda target, **options: FakeFloor if "gpu_floor" in target else plain(target, **options),
    )
    return monkeypatch


@pytest.fixture
def files(handmade: Callable[..., Any], tmp_path: Path) -> tuple[Path, Path]:
    """A TensorRT engine and the exported model it was made from."""
    subject = handmade()
    return write_plan(tmp_path / "model.trt", subject.manifest), subject.path


def test_a_gpu_s_figures_follow_from_the_parts_of_its_passes() -> None:
    slow = {"h2d_s": [0.001], "enqueue_s": [0.0005], "compute_s": [0.008], "d2h_s": [0.001]}
    fast = {"h2d_s": [0.001], "enqueue_s": [0.0005], "compute_s": [0.002], "d2h_s": [0.002]}
    streams = [[{"images": 10, "wall_s": 0.1}] * 2, [{"images": 10, "wall_s": 0.02}] * 2]

    found = figures.on_gpu([[slow, slow], [fast, fast]], streams, 1, 10**10, FloorRate(1e13, "torch-cuda", "matrix"))

    assert found.compute_s.p50 == pytest.approx(0.002)
    assert found.with_copies_s.p50 == pytest.approx(0.005)
    assert found.speedup.median == pytest.approx(4)  # 8 ms against 2
    assert found.with_copies_speedup.median == pytest.approx(2)  # 10 ms against 5
    assert found.flops_per_s == pytest.approx(5e12)
    assert found.floor_multiple == pytest.approx(2)  # 2 ms where 10 GFLOP take 1 ms at 10 TFLOP/s
    assert found.images_per_s.median == pytest.approx(500)
    assert found.streamed_speedup.median == pytest.approx(5)
    assert found.bottleneck == "copies"


def test_without_known_arithmetic_there_is_no_rate_and_no_floor() -> None:
    passes = {"h2d_s": [0.001], "enqueue_s": [0.0005], "compute_s": [0.008], "d2h_s": [0.001]}

    found = figures.on_gpu([[passes]], [[{"images": 1, "wall_s": 1.0}]], 0, None, FloorRate(1e13, "torch-cuda", "m"))

    assert (found.flops_per_s, found.floor_multiple) == (None, None)


@pytest.mark.parametrize(
    ("times", "bound"),
    [
        (PassTimes(h2d_s=1, enqueue_s=1, compute_s=8, d2h_s=1), "compute"),
        (PassTimes(h2d_s=1, enqueue_s=9, compute_s=8, d2h_s=1), "enqueue"),
        (PassTimes(h2d_s=1, enqueue_s=7.9, compute_s=8, d2h_s=1), "enqueue"),  # of a pass alone they end together
        (PassTimes(h2d_s=1, enqueue_s=7, compute_s=8, d2h_s=1), "compute"),
        (PassTimes(h2d_s=1, enqueue_s=1, compute_s=8, d2h_s=8), "copies"),
        (PassTimes(h2d_s=5, enqueue_s=9, compute_s=8, d2h_s=5), "copies"),  # the longest of all
    ],
)
def test_the_longest_part_of_a_pass_bounds_it(times: PassTimes, bound: str) -> None:
    assert bottleneck.of_pass(**vars(times)) == bound


@pytest.mark.parametrize(
    ("busy_s", "bound"),
    [
        ({"source": 5, "fit": 1, "engine": 2, "decode": 1}, "source"),
        ({"source": 1, "fit": 3, "engine": 2, "decode": 1}, "fit"),
        ({"source": 4, "fit": 0, "engine": 3, "decode": 2}, "engine"),  # with decode, its thread works longer
        ({"source": 1, "fit": 1, "engine": 2, "decode": 9}, "decode"),
    ],
)
def test_a_run_waits_for_the_longest_part_of_its_busiest_thread(busy_s: dict[str, float], bound: str) -> None:
    assert bottleneck.of_run(busy_s) == bound


def test_passes_and_streams_are_measured_after_one_that_is_not(handmade: Callable[..., Any]) -> None:
    subject = handmade()
    engine = fake_gpu.FakeOrtCuda(subject.path)
    calls: list[int] = []
    engine.time_pass = lambda images: calls.append(1) or fake_gpu.TIMES["tensorrt"]  # type: ignore[method-assign]

    passes = time_gpu_passes(engine, subject.images(), 0)
    streamed = time_stream(engine, subject.images(), 0)
    keep_busy(lambda: calls.append(2), 0)

    assert calls == [1, 1]
    assert passes.compute_s == (0.002,)
    assert streamed.images == 5  # of six batches; the clock starts with the first result
    assert streamed.wall_s > 0


def test_all_of_a_run_on_a_gpu(gpu: pytest.MonkeyPatch, files: tuple[Path, Path], tmp_path: Path) -> None:
    plan, model = files
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "frame.png")

    report = run_benchmark(plan, against=CASES, model=model, input=str(tmp_path / "frame.png"), frames=1, **QUICK)

    assert [row.label for row in report.rows] == [f"{name} fp32" for name in CASES]
    speedups = [row.gpu.speedup.median for row in report.rows if row.gpu]
    assert speedups == pytest.approx([1, 2, 4])
    assert [row.gpu.with_copies_speedup.median for row in report.rows if row.gpu] == pytest.approx([1, 10 / 6, 10 / 6])
    assert [row.gpu.bottleneck for row in report.rows if row.gpu] == ["compute", "enqueue", "copies"]
    assert all(row.one_thread is None for row in report.rows)
    assert report.floor == {}
    assert report.gpu_floor is not None
    assert report.gpu_floor.rates["fp32"].flops_per_s == 2e12  # the better of two rounds
    assert report.gpu_floor.copies == {"h2d": 20e9, "d2h": 20e9, "d2d": 1e12}
    assert report.not_run == {"floor of the GPU in int8": "no int8 here"}
    assert report.machine["gpu"]["name"] == "NVIDIA H100"
    first = report.rows[0]
    assert first.gpu is not None
    assert first.gpu.floor_multiple == pytest.approx(0.008 * 2e12 / report.model["flops"])
    assert json.loads(json.dumps(report.to_dict()))["rows"][1]["gpu"]["bottleneck"] == "enqueue"

    said = bottleneck.sentences(report)
    assert said[1].startswith("onnxruntime-tensorrt fp32 is enqueue-bound: the host takes 5.000 ms to start what takes")
    assert said[2].startswith("tensorrt fp32 is copy-bound: 1.000 ms to the GPU and 3.000 ms back, for 2.000 ms")
    assert "Decode on the GPU" in said[2]
    assert "tensorrt fp32 end to end waits for the " in said[5]
    assert len(said) == 6


def test_the_tables_of_a_gpu_replace_those_of_one_thread(gpu: pytest.MonkeyPatch, files: tuple[Path, Path]) -> None:
    plan, model = files

    report = run_benchmark(plan, against=CASES, model=model, **QUICK)
    found = table.tables(report)

    assert [section.title.partition(";")[0] for section in found] == [
        "GPU, its own work",
        "GPU, with copies",
        "GPU, streamed",
        "Engine only, `infer` one by one, by the clock",
    ]
    for section in found:
        assert [row[0] for row in section.rows] == [f"{name} fp32" for name in CASES]
        assert all(len(row) == len(section.columns) for row in section.rows)
    assert found[0].rows[1][1:3] == ("2.00 (2.00-2.00)", "4.000 / 4.000 / 4.000")
    assert found[1].rows[2][2:] == ("6.000 / 6.000 / 6.000", "1.000", "0.100", "3.000")
    assert found[2].rows[2][3] == "copies"
    facts = table.facts(report)
    assert any(fact.startswith("NVIDIA H100, compute capability 9.0, 80 GiB") for fact in facts)
    assert "floor of the GPU in fp32: 2.0 TFLOP/s (matrix 4096x4096x4096)" in facts
    assert "floor of the GPU's copies: h2d 20.0 GB/s, d2h 20.0 GB/s, d2d 1000.0 GB/s" in facts
    assert len(table.legend(report)) == len(table.LEGEND) + len(table.GPU_LEGEND)


def test_a_cpu_and_a_gpu_share_a_run_and_each_has_its_own_sections(
    gpu: pytest.MonkeyPatch, files: tuple[Path, Path], tmp_path: Path
) -> None:
    from nddr_deploy.benchmark.plot import draw

    plan, model = files

    report = run_benchmark(plan, against=["tensorrt", "onnxruntime", "onnxruntime-cuda"], model=model, **QUICK)
    found = table.tables(report)
    draw(report, tmp_path / "plot.png")

    assert [[row[0] for row in section.rows] for section in found] == [
        ["onnxruntime fp32"],
        *[["tensorrt fp32", "onnxruntime-cuda fp32"]] * 3,
        ["tensorrt fp32", "onnxruntime fp32", "onnxruntime-cuda fp32"],
    ]
    gpu_speedups = [row.gpu.speedup.median for row in report.rows if row.gpu]
    assert gpu_speedups == pytest.approx([1, 0.25])
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > 600


def test_without_pytorch_there_is_no_floor_and_the_report_says_why(
    gpu: pytest.MonkeyPatch, files: tuple[Path, Path]
) -> None:
    plain = engine_table.optional.load
    gpu.setattr(
        worker.optional,
        "load",
        lambda target, **options: NoFloor if "gpu_floor" in target else plain(target, **options),
    )

    report = run_benchmark(files[0], against=["tensorrt"], **QUICK)

    assert report.gpu_floor is None
    assert report.not_run == {"floor of the GPU": "PyTorch has no CUDA."}
    assert report.model["flops"] is None  # there is no graph to count in
    assert table.tables(report)[0].rows[0][4:] == ("-", "-")
    assert "GFLOP" not in table.facts(report)[0]


def test_the_gpu_s_floor_is_the_best_product_and_the_best_copies() -> None:
    from nddr_deploy.benchmark.gpu_floor import GpuKernels

    kernels = GpuKernels(device="cpu", sizes=(64,), copied_bytes=1 << 16)
    rates, copies = kernels.measure()

    assert {rate.precision for rate in rates} | set(kernels.not_run) == {"fp32", "fp16", "bf16", "int8"}
    assert {rate.kernel for rate in rates} == {"matrix 64x64x64"}
    assert all(0 < rate.flops_per_s < 1e14 for rate in rates)
    assert set(copies) == {"h2d", "d2h", "d2d"}
    assert all(rate > 0 for rate in copies.values())


def test_case_names_on_a_gpu_say_runtime_and_precision() -> None:
    names = ["torch-cuda:fp16", "torch-cuda.compile:fp16", "onnxruntime-cuda", "onnxruntime-tensorrt:fp16", "tensorrt"]

    cases = parse_cases(names, model=MODEL, checkpoint=CHECKPOINT, plan=PLAN, plan_precision="int8")

    assert [case.label for case in cases] == [
        "torch-cuda fp16",
        "torch-cuda.compile fp16",
        "onnxruntime-cuda fp32",
        "onnxruntime-tensorrt fp16",
        "tensorrt int8",
    ]
    assert [case.path for case in cases] == [CHECKPOINT, CHECKPOINT, MODEL, MODEL, PLAN]
    assert [case.compiled for case in cases] == [False, True, False, False, False]
    assert all(case.gpu for case in cases)


def test_only_fp32_in_onnx_runtime_s_tensorrt_needs_its_process_told_about_tf32() -> None:
    names = ["onnxruntime-tensorrt", "onnxruntime-tensorrt:fp16", "onnxruntime-cuda", "onnxruntime"]

    cases = parse_cases(names, model=MODEL, checkpoint=None)

    assert [case.environment for case in cases] == [{"NVIDIA_TF32_OVERRIDE": "0"}, {}, {}, {}]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tensorrt", r"--against tensorrt runs a TensorRT engine, and none was given\. Build one with nddr-build"),
        ("torch-cuda:fp16", r"--against torch-cuda runs the checkpoint, and none was given\. Add --checkpoint"),
        ("onnxruntime-cuda", r"--against onnxruntime-cuda runs the exported model, and none was given\. Add --model"),
        ("openvino", r"--against openvino runs the exported model, and none was given\. Add --model"),
        ("tensorrt-rtx", r"'tensorrt-rtx' is unknown\. .* Did you mean 'tensorrt'"),
    ],
)
def test_a_case_without_its_file_is_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_cases([name], model=None, checkpoint=None)


def test_a_tensorrt_engine_s_usual_cases_are_those_on_a_gpu_whose_files_are_there(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    plan, model = files
    not_run: dict[str, str] = {}

    everything = choose_cases(None, Subject.read(plan, model=model, checkpoint=tmp_path / "ckpt.pt"), {})
    alone = choose_cases(None, Subject.read(plan), not_run)

    assert [case.name for case in everything] == list(default_gpu("fp32"))
    assert [case.name for case in alone] == ["tensorrt"]
    assert "--checkpoint" in not_run["torch"]
    assert "--model" in not_run["onnxruntime"]
    assert default_gpu("int8")[0] == "torch-cuda:fp16"  # the nearest that PyTorch has


def test_files_that_do_not_belong_together_are_refused(
    files: tuple[Path, Path], handmade: Callable[..., Any], tmp_path: Path
) -> None:
    plan, model = files
    mine, other = (handmade().manifest.model_copy(update={"hashes": {"checkpoint": name}}) for name in "ab")
    graph = read_model(model)
    write_manifest(graph, other)
    onnx.save_model(graph, tmp_path / "other.onnx")

    with pytest.raises(ConfigError, match="made from different checkpoints"):
        Subject.read(write_plan(tmp_path / "foreign.trt", mine), model=tmp_path / "other.onnx")
    with pytest.raises(ConfigError, match=r"is an exported model itself\. Leave --model"):
        Subject.read(model, model=model)
    with pytest.raises(ConfigError, match=r"expected an exported model \(\.onnx\)"):
        Subject.read(plan, model=plan)
    with pytest.raises(ModelFileError, match="does not exist"):
        Subject.read(tmp_path / "none.trt")
    assert Subject.read(write_plan(tmp_path / "same.trt", other), model=tmp_path / "other.onnx").flops


def test_the_exported_model_is_made_to_do_what_the_engine_does(handmade: Callable[..., Any], tmp_path: Path) -> None:
    subject = handmade(dynamic=("batch", "size"))
    decoded = subject.manifest.model_copy(update={"outputs": "decoded", "dynamic": ("batch",), "size_hw": (16, 24)})
    plan = write_plan(tmp_path / "model.trt", decoded)
    (tmp_path / "other").mkdir()

    matched = Subject.read(plan, model=subject.path).matched(tmp_path / "other")

    assert matched.model == tmp_path / "other/model.onnx"
    worker.check_same_work(read_manifest(matched.model), decoded, "onnxruntime-cuda")
    assert read_manifest(matched.model).dynamic == ("batch",)
    assert matched.notes == (
        "onnxruntime and openvino run model.onnx with its open size fixed and decoders appended, as the engine does",
    )
    assert matched.describe()["notes"] == list(matched.notes)


def test_an_exported_model_that_does_the_same_work_stays_as_it_is(files: tuple[Path, Path], tmp_path: Path) -> None:
    subject = Subject.read(files[0], model=files[1])

    assert subject.matched(tmp_path) is subject
    assert Subject.read(files[1]).matched(tmp_path).notes == ()


@pytest.mark.parametrize(
    ("changes", "backend", "sentence"),
    [
        (
            {"outputs": "decoded"},
            "onnxruntime-cuda",
            r"the measured model decoded ones\. Give an export with --outputs",
        ),
        ({"outputs": "decoded"}, "torch", r"The checkpoint returns raw outputs.*PyTorch on a CPU does not decode"),
        ({"size_hw": (32, 32)}, "onnxruntime-cuda", r"takes 1 images of 16x24, the measured model 1 of 32x32"),
        ({"batch": 4}, "onnxruntime-cuda", r"takes 1 images of 16x24, the measured model 4 of 16x24"),
    ],
)
def test_unlike_work_is_not_compared(
    handmade: Callable[..., Any], changes: dict[str, Any], backend: str, sentence: str
) -> None:
    found = handmade().manifest

    with pytest.raises(ConfigError, match=sentence):
        worker.check_same_work(found, found.model_copy(update=changes), backend)

    worker.check_same_work(found, found, backend)
    open_ended = found.model_copy(update={"dynamic": ("batch", "size")})
    if "outputs" not in changes:
        worker.check_same_work(open_ended, found.model_copy(update=changes), backend)


@pytest.mark.parametrize("outputs", ["raw", "decoded"])
def test_pytorch_on_a_gpu_is_asked_for_what_the_engine_returns(
    gpu: pytest.MonkeyPatch, handmade: Callable[..., Any], outputs: str
) -> None:
    subject = handmade()
    wanted = subject.manifest.model_copy(update={"outputs": outputs, "size_hw": (32, 48)})
    gpu.setitem(engine_table.BACKENDS, "torch-cuda", "fake_gpu:FakeTorchCuda")

    fake_gpu.LocalWorker("case", threads=1).ask(
        "open",
        path=str(subject.path),
        backend="torch-cuda",
        threads=1,
        precision="fp16",
        compiled=True,
        manifest=wanted.to_json(),
    )

    assert fake_gpu.FakeTorchCuda.opened.pop() == {"size_hw": (32, 48), "compiled": True, "outputs": outputs}


def test_a_case_that_cannot_run_is_left_out_of_the_usual_ones_with_its_reason(
    gpu: pytest.MonkeyPatch, files: tuple[Path, Path]
) -> None:
    plan, model = files
    gpu.setitem(engine_table.BACKENDS, "onnxruntime-cuda", "fake_gpu:Refused")
    gpu.setattr(fake_gpu, "Refused", refused, raising=False)

    report = run_benchmark(plan, model=model, **QUICK)

    assert [row.label for row in report.rows] == ["onnxruntime-tensorrt fp32", "tensorrt fp32"]
    assert report.not_run["onnxruntime-cuda fp32"] == "There is no such provider."
    with pytest.raises(UnsupportedError, match="no such provider"):
        run_benchmark(plan, model=model, against=CASES, **QUICK)


def refused(path: Path, **options: Any) -> None:
    raise UnsupportedError("There is no such provider.")


@pytest.mark.parametrize("against", [[], ["--against", "tensorrt"], ["--against", "onnxruntime,onnxruntime-cuda"]])
def test_without_a_gpu_the_command_is_one_sentence_and_status_two(
    against: list[str],
    files: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cuda, "count_gpus", lambda: 0)

    status = command.main(["--engine", str(files[0]), "--model", str(files[1]), *against])

    said = capsys.readouterr().err
    assert status == 2
    assert said.startswith("error: No NVIDIA GPU can be used here")  # at once, not as a reason of every case
    assert said.count("\n") == 1


def test_the_command_prints_what_bounds_each_case(
    gpu: pytest.MonkeyPatch, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--rounds", "1", "--seconds-per-case", "0.01", "--threads", "1", "--markdown"]

    status = command.main(["--engine", str(files[0]), "--model", str(files[1]), "--against", ",".join(CASES), *quick])

    said = capsys.readouterr().out
    assert status == 0
    assert "### GPU, with copies; times faster than onnxruntime-cuda fp32" in said
    assert "- onnxruntime-cuda fp32 is compute-bound: 8.000 ms of work" in said
