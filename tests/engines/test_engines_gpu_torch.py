"""PyTorch on a GPU, by the same code on a CPU: types, memory layout, settings and times."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nddr_deploy.engines import cuda, eager_gpu, open_engine
from nddr_deploy.engines.base import PassTimes
from nddr_deploy.engines.eager_decode import decode
from nddr_deploy.engines.eager_gpu import TorchCudaEngine
from nddr_deploy.errors import InputError, MissingPackageError, UnsupportedError
from nddr_deploy.resize import CONVENTIONS, Grid
from nddr_deploy.tasks import Age, Binary, Classification, Depth, Normals, Segmentation

TASKS = (
    Segmentation("segmentation", classes=("floor", "wall", "sofa")),
    Normals("normals"),
    Normals("turned", axes=("up", "left", "toward")),
    Normals("coloured", coding="colour", axes=("toward", "right", "up")),
    Depth("depth"),
    Binary("edge"),
    Age("age", classes=4),
    Classification("gender", ("female", "male")),
)


def difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest over the heads, of the head's range."""
    return max(float(np.abs(found[name] - expected[name]).max() / np.ptp(expected[name])) for name in expected)


def on_cpu(trained: Any, **options: Any) -> TorchCudaEngine:
    return TorchCudaEngine(trained.path, threads=1, device="cpu", **options)


def test_without_a_gpu_there_is_one_sentence(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "count_gpus", lambda: 0)

    with pytest.raises(UnsupportedError, match="No NVIDIA GPU can be used here"):
        open_engine(trained.path, "torch-cuda", precision="fp16")


def test_a_pytorch_without_cuda_is_named(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "count_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)

    with pytest.raises(UnsupportedError, match="is built without CUDA and cannot use this machine's GPU"):
        open_engine(trained.path, "torch-cuda")


def test_bf16_is_refused_where_the_gpu_would_only_emulate_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "count_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)

    with pytest.raises(UnsupportedError, match="Tesla T4 does not calculate in bf16"):
        eager_gpu.check_device("bf16")

    assert eager_gpu.check_device("fp16") == "Tesla T4"


def test_int8_is_refused(trained: Any) -> None:
    with pytest.raises(UnsupportedError, match="fp32, fp16 or bf16; asked for int8"):
        on_cpu(trained, precision="int8")


@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [
        ("fp32", 0, 1e-5),  # rounding of float32
        ("fp16", 1e-4, 1e-2),  # 11 bits: really half precision, and still the same network
        ("bf16", 1e-3, 0.1),  # 8 bits
    ],
)
def test_every_head_comes_in_the_precision_asked_for_as_float32(
    trained: Any, precision: str, least: float, most: float
) -> None:
    images = trained.images(count=2, seed=7)

    with on_cpu(trained, precision=precision) as engine:
        outputs = engine.infer(images)

    assert (engine.backend, engine.precision, engine.threads) == ("torch-cuda", precision, 1)
    assert list(outputs) == ["segmentation", "normals", "age"]
    assert all(output.dtype == np.float32 for output in outputs.values())
    assert least <= difference(outputs, trained.expected(images)) < most


def test_the_weights_are_cast_and_lie_channels_last_but_pre_processing_stays_float32(trained: Any) -> None:
    seen: list[torch.Tensor] = []
    engine = on_cpu(trained, precision="fp16")
    model: Any = engine._model
    model.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    engine.infer(trained.images())

    assert {weight.dtype for weight in model.network.parameters()} == {torch.float16}
    kernels = [weight for weight in model.network.parameters() if weight.dim() == 4 and min(weight.shape[1:]) > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    assert {model.input.mean.dtype, model.input.factor.dtype} == {torch.float32}
    assert seen[0].dtype == torch.float16
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_what_is_decoded_on_the_gpu_is_what_the_task_decodes(task: Any, convention: Any) -> None:
    shape = (2, task.channels, *((7, 9) if task.head == "dense" else ()))
    raw = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    if task.kind == "normals":
        raw[0, :, :3, :4] = 0  # no direction
        raw[1] *= 1e30  # whose squares overflow
    grid = Grid.between((7, 9), (33, 41), convention) if task.head == "dense" else None

    found = decode(torch.from_numpy(raw), task, (33, 41), convention).numpy()

    for index in range(2):
        expected = np.asarray(task.decode(raw[index], grid))
        assert found[index].shape == expected.shape
        if task.kind == "segmentation":
            assert found.dtype == np.uint8
            assert (found[index] != expected).mean() < 1e-3  # ties
        else:
            far = ~np.isclose(found[index], expected, rtol=1e-4, atol=1e-3)
            assert far.mean() < 2e-3  # of tiny vectors, rounding decides the direction


def test_a_task_without_a_decoder_is_refused() -> None:
    task: Any = SimpleNamespace(name="sound", kind="audio")

    with pytest.raises(UnsupportedError, match="sound: tasks of kind 'audio' cannot be decoded in PyTorch"):
        decode(torch.zeros(1, 1), task, (2, 2), "half_pixel")


def test_decoded_outputs_are_those_of_a_decoded_export(trained: Any, tmp_path: Path) -> None:
    import engine_subjects

    decoded = engine_subjects.export(trained, tmp_path / "decoded.onnx", outputs="decoded")
    images = trained.images(seed=3)

    with on_cpu(trained, outputs="decoded") as engine, open_engine(decoded.path, "onnxruntime", threads=1) as other:
        assert engine.manifest.outputs == other.manifest.outputs == "decoded"
        found, expected = engine.infer(images), other.infer(images)

    for name, output in expected.items():
        assert (found[name].dtype, found[name].shape) == (output.dtype, output.shape)
    assert (found["segmentation"] != expected["segmentation"]).mean() < 1e-3  # ties
    np.testing.assert_allclose(found["normals"], expected["normals"], atol=1e-3)
    np.testing.assert_allclose(found["age"], expected["age"], atol=1e-3)


def test_tf32_is_off_during_a_pass_and_as_it_was_afterwards(trained: Any) -> None:
    def settings() -> tuple[bool, bool, bool]:
        cudnn = torch.backends.cudnn
        return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark

    before, during = settings(), []
    engine = on_cpu(trained)
    engine._model.register_forward_hook(lambda *_: during.append(settings()))

    engine.infer(trained.images())

    assert during == [(False, False, True)]
    assert settings() == before
    assert before[1]  # cuDNN's default is on, so there was something to switch off


def test_sizes_may_change_and_outputs_stay_as_they_are(trained: Any) -> None:
    small = np.random.default_rng(1).integers(0, 256, (1, 33, 49, 3), dtype=np.uint8)

    with on_cpu(trained) as engine:
        first = engine.infer(trained.images())
        before = {name: output.copy() for name, output in first.items()}
        second = engine.infer(small)
        engine.infer(trained.images(seed=2))

    assert difference(second, trained.expected(small)) < 1e-5
    for name, output in first.items():
        np.testing.assert_array_equal(output, before[name])


def test_read_only_images_are_taken_and_left_as_they_are(trained: Any) -> None:
    images = trained.images()
    images.flags.writeable = False
    before = images.copy()

    with on_cpu(trained) as engine:
        outputs = engine.infer(images)

    np.testing.assert_array_equal(images, before)
    assert difference(outputs, trained.expected(before)) < 1e-5


def test_the_parts_of_a_pass_are_where_the_time_goes(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four events: before the upload, after it, after the computation, after the download."""
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)

    def event(*, enable_timing: bool) -> Any:
        assert enable_timing
        made = SimpleNamespace(record=lambda: setattr(made, "at", clock.now))
        made.elapsed_time = lambda later: 1000 * (later.at - made.at)  # milliseconds
        return made

    def slowed(step: Callable[..., Any], *seconds: float) -> Callable[..., Any]:
        left = list(seconds)

        def slow(*arguments: Any, **options: Any) -> Any:
            clock.now += left.pop(0) if left else 0
            return step(*arguments, **options)

        return slow

    engine = on_cpu(trained)
    engine._model = slowed(engine._model, 5)
    monkeypatch.setattr(torch.cuda, "Event", event)
    monkeypatch.setattr(eager_gpu, "time", clock)
    monkeypatch.setattr(torch.Tensor, "to", slowed(torch.Tensor.to, 3))  # to the GPU; later ones are the network's
    # into pinned memory, which is no part of the pass; then the three outputs
    monkeypatch.setattr(torch.Tensor, "copy_", slowed(torch.Tensor.copy_, 100, 2, 2, 3))

    assert engine.time_pass(trained.images()) == PassTimes(h2d_s=3, enqueue_s=5, compute_s=5, d2h_s=7)


def test_time_pass_checks_its_images_and_a_closed_engine_says_so(trained: Any) -> None:
    engine = on_cpu(trained)

    with pytest.raises(InputError, match="takes uint8 RGB images"):
        engine.time_pass(np.zeros((1, 3, 16, 24), np.uint8))
    engine.close()
    engine.close()
    with pytest.raises(InputError, match="engine is closed"):
        engine.infer(trained.images())


def test_compiled_is_the_strongest_mode_of_pytorch(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def compile(model: Any, **options: Any) -> Any:
        asked.append(options)
        return model

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(eager_gpu, "check_compiler", lambda: None)

    with on_cpu(trained, compiled=True) as engine:
        outputs = engine.infer(trained.images())

    assert asked == [{"dynamic": False, "mode": "max-autotune"}]
    assert difference(outputs, trained.expected(trained.images())) < 1e-5


def test_compiled_without_triton_is_one_sentence(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager_gpu, "check_device", lambda precision: "NVIDIA H100")
    monkeypatch.setattr(eager_gpu, "check_compiler", lambda: None)
    monkeypatch.setitem(sys.modules, "triton", None)

    with pytest.raises(MissingPackageError, match="triton"):
        TorchCudaEngine(trained.path, compiled=True)
