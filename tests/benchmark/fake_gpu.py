"""GPU engines whose times are known, and the files that they open: for tests of the benchmark without a GPU."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from nddr_deploy.benchmark.worker import Orders
from nddr_deploy.engines.base import Engine, PassTimes
from nddr_deploy.engines.onnx_file import OnnxFile
from nddr_deploy.engines.plan_file import PlanFile, PlanManifest, Profile, manifest_path
from nddr_deploy.errors import NddrError
from nddr_deploy.manifest import Manifest

# The second is twice as fast in its work and waits for the host, the third for its copies.
TIMES = {
    "onnxruntime-cuda": PassTimes(h2d_s=0.001, enqueue_s=0.001, compute_s=0.008, d2h_s=0.001),
    "onnxruntime-tensorrt": PassTimes(h2d_s=0.001, enqueue_s=0.005, compute_s=0.004, d2h_s=0.001),
    "tensorrt": PassTimes(h2d_s=0.001, enqueue_s=0.0001, compute_s=0.002, d2h_s=0.003),
}


class FakeGpuEngine(Engine):
    """Returns zeros at once, and says that it took the times of its backend."""

    device = "fake"
    threads = 1

    def __init__(self, path: Path, *, threads: int | None = None, precision: str | None = None) -> None:
        self.manifest = self.read(path)
        self.precision = precision or "fp32"

    def read(self, path: Path) -> Manifest:
        return OnnxFile.read(path).manifest

    def _run(self, images: Any) -> dict[str, Any]:
        shapes = {"dense": (len(images), 3, 4, 6), "pooled": (len(images), 4)}  # of the model made by hand
        return {task.name: np.zeros(shapes[task.head], np.float32) for task in self.manifest.tasks}

    def time_pass(self, images: Any) -> PassTimes:
        return TIMES[self.backend]

    def close(self) -> None: ...


class FakeOrtCuda(FakeGpuEngine):
    backend = "onnxruntime-cuda"


class FakeOrtTensorRT(FakeGpuEngine):
    backend = "onnxruntime-tensorrt"


class FakeTensorRT(FakeGpuEngine):
    backend = "tensorrt"

    def __init__(self, path: Path, *, threads: int | None = None, precision: str | None = None) -> None:
        assert threads is None  # the real one refuses any
        super().__init__(path, precision=precision)

    def read(self, path: Path) -> Manifest:
        return PlanFile.read(path).about.model


class FakeTorchCuda(FakeGpuEngine):
    """A checkpoint leaves batch and size open, and decodes if it is told to."""

    backend = "torch-cuda"
    opened: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, path: Path, *, threads: int, precision: str, **options: Any) -> None:
        super().__init__(path, precision=precision)
        self.opened.append(options)
        self.manifest = self.manifest.model_copy(
            update={"outputs": options["outputs"], "dynamic": ("batch", "size"), "size_hw": options["size_hw"]}
        )


class LocalWorker:
    """`process.Worker` in this process; orders and answers go through JSON as theirs do."""

    def __init__(self, name: str, *, threads: int, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self._orders = Orders()

    def ask(self, order: str, **values: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(json.dumps(getattr(self._orders, order)(**json.loads(json.dumps(values)))))
        return answer

    def close(self) -> None: ...

    def __enter__(self) -> LocalWorker:
        return self

    def __exit__(self, *error: object) -> None: ...


class FakeFloor:
    """A GPU whose best fp32 product reaches 1 TFLOP/s in one round and 2 in the next."""

    not_run = {"int8": "no int8 here"}  # noqa: RUF012

    def __init__(self) -> None:
        self.measured = 0

    def measure(self) -> tuple[list[Any], dict[str, float]]:
        from nddr_deploy.benchmark.floor import Rate

        self.measured += 1
        rate = Rate("torch-cuda", "fp32", "matrix 4096x4096x4096", 1e12 * self.measured)
        return [rate], {"h2d": 20e9, "d2h": 10e9 * self.measured, "d2d": 1e12}


class NoFloor:
    def __init__(self) -> None:
        raise NddrError("PyTorch has no CUDA.")


def write_plan(path: Path, manifest: Manifest, **changes: Any) -> Path:
    """A file that is a TensorRT engine as far as its manifest goes."""
    path.write_bytes(b"a plan")
    shape = (manifest.batch, *manifest.size_hw, 3)
    about = PlanManifest(
        **{
            "model": manifest,
            "plan": hashlib.sha256(b"a plan").hexdigest(),
            "onnx": "model.onnx",
            "tensorrt": "10.13.3.9",
            "gpu": "NVIDIA H100",
            "compute_capability": "9.0",
            "precision": "fp32",
            "realised": {},
            "profile": Profile(min=shape, opt=shape, max=shape),
            **changes,
        }
    )
    manifest_path(path).write_text(about.model_dump_json())
    return path
