"""What the benchmark compares TensorRT with, on a real GPU: PyTorch and ONNX Runtime's providers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from nddr_deploy.engines import open_engine
from nddr_deploy.engines.cuda import count_gpus
from nddr_deploy.engines.eager_gpu import TorchCudaEngine

pytestmark = pytest.mark.skipif(count_gpus() == 0, reason="no GPU here")
PROVIDERS = {"onnxruntime-cuda": "CUDAExecutionProvider", "onnxruntime-tensorrt": "TensorrtExecutionProvider"}
# Of an output's range: rounding of float32, of half precision, of bfloat16, through 20 layers.
TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 0.1}


def difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    return max(float(np.abs(found[name] - expected[name]).max() / np.ptp(expected[name])) for name in expected)


def check_times(engine: Any, images: Any) -> None:
    engine.time_pass(images)
    times = engine.time_pass(images)
    assert all(0 < seconds < 1 for seconds in vars(times).values())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_pytorch_returns_what_the_network_computes_in_float64(trained: Any, precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    images = trained.images(count=2)

    with open_engine(trained.path, "torch-cuda", precision=precision) as engine:
        outputs = engine.infer(images)
        check_times(engine, images)

    assert difference(outputs, trained.expected(images)) < TOLERANCES[precision]


@pytest.mark.slow
def test_compiled_pytorch_returns_the_same(trained: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    images = trained.images()

    with TorchCudaEngine(trained.path, precision="fp16", compiled=True) as engine:
        first = engine.infer(images)
        again = engine.infer(images)
        check_times(engine, images)

    assert difference(first, trained.expected(images)) < TOLERANCES["fp16"]
    assert difference(again, first) == 0


@pytest.mark.parametrize("backend", PROVIDERS)
def test_onnx_runtime_s_providers_return_what_the_network_computes_in_float64(
    trained: Any, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import engine_subjects

    if PROVIDERS[backend] not in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has no {PROVIDERS[backend]}")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    subject = engine_subjects.export(trained, tmp_path / "model.onnx")
    images = subject.images()

    with open_engine(subject.path, backend) as engine:
        first = engine.infer(images)
        before = {name: output.copy() for name, output in first.items()}
        engine.infer(subject.images(seed=1))
        check_times(engine, images)

    assert difference(before, trained.expected(images)) < 1e-2  # TF32 may have been on when the libraries were loaded
    for name, output in first.items():
        np.testing.assert_array_equal(output, before[name])
