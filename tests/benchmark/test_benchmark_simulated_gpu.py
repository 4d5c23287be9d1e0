"""nddr-bench on an engine that nddr-build built, on a simulated GPU with TensorRT's true interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_gpu import LocalWorker
from simulated.simulate import VERSIONS, Machine, simulate

from nddr_deploy.benchmark import bottleneck, table, turns, worker
from nddr_deploy.benchmark.run import run_benchmark
from nddr_deploy.build.recipe import build_engine


@pytest.fixture(params=VERSIONS)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    workers: list[Any] = []

    class Worker(LocalWorker):
        """The engine ends with its worker, as it does with a real worker's process."""

        def __init__(self, name: str, **options: Any) -> None:
            super().__init__(name, **options)
            workers.append(self)

        def close(self) -> None:
            if self._orders._engine is not None:
                self._orders._engine.close()

        def __exit__(self, *error: object) -> None:
            self.close()

    monkeypatch.setattr(turns, "Worker", Worker)
    monkeypatch.setattr(worker, "WAKE_S", 0.0)
    with simulate(request.param) as machine:
        yield machine


def test_a_built_engine_is_measured_against_a_cpu_that_does_the_same_work(
    machine: Machine, handmade: Callable[..., Any], tmp_path: Path
) -> None:
    subject = handmade(dynamic=("batch",))
    build_engine(subject.path, tmp_path / "model.trt", precision="fp32", timing_cache=None)

    report = run_benchmark(
        tmp_path / "model.trt",
        model=subject.path,
        against=["tensorrt", "onnxruntime"],
        rounds=1,
        seconds_per_case=0.01,
        threads=1,
    )

    tensorrt, cpu = report.rows
    assert report.model["outputs"] == "decoded"  # which the exported model was not, and had open batches
    assert report.model["notes"] == [
        "onnxruntime and openvino run model.onnx with its open batch fixed and decoders appended, as the engine does"
    ]
    assert tensorrt.gpu is not None
    assert tensorrt.gpu.compute_s.p50 > 0
    assert tensorrt.gpu.images_per_s.median > 0
    assert tensorrt.gpu.bottleneck in ("compute", "copies", "enqueue")
    assert cpu.one_thread is not None
    assert cpu.difference < 1e-3
    assert report.machine["gpu"]["name"] == machine.gpu.kind.name
    assert "floor of the GPU" in report.not_run  # PyTorch does not see a simulated GPU
    assert bottleneck.sentences(report)[0].startswith("tensorrt fp32 is ")
    assert len(table.tables(report)) == 5
