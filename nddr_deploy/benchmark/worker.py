"""The process behind `process.Worker`: opens one engine (or a floor's kernels), and measures it when told to."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nddr_deploy import optional
from nddr_deploy.benchmark.cases import GPU_RUNTIMES
from nddr_deploy.benchmark.memory import peak_bytes, resident_bytes
from nddr_deploy.benchmark.timing import keep_busy, time_gpu_passes, time_passes, time_stream
from nddr_deploy.engines import BACKENDS, open_engine
from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import ConfigError, NddrError
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Image

SEED = 0
WAKE_S = 0.2  # of unmeasured passes before each turn on a GPU


class Orders:
    """What a worker can be asked to do: every method is an order, its arguments and its answer are JSON values."""

    def __init__(self) -> None:
        self._before_bytes = resident_bytes()
        self._engine: Engine | None = None
        self._images: Image | None = None
        self._on_gpu = False
        self._floor: Any = None

    def open(
        self, path: str, backend: str, threads: int, precision: str, compiled: bool, manifest: str
    ) -> dict[str, Any]:
        """Load the case and run it twice: kernels are chosen, and code is compiled, in the first pass."""
        wanted = Manifest.from_json(manifest, source="the measured model")
        engine: Engine
        if backend in ("torch", "torch-cuda"):
            torch_engine = optional.load(BACKENDS[backend], extra="train")
            options: dict[str, Any] = {"size_hw": wanted.size_hw, "compiled": compiled}
            if backend == "torch-cuda":
                options["outputs"] = wanted.outputs
            engine = torch_engine(Path(path), threads=threads, precision=precision, **options)
        else:
            # a TensorRT engine has no threads to set
            engine = open_engine(path, backend, threads=None if backend == "tensorrt" else threads, precision=precision)
        check_same_work(engine.manifest, wanted, backend)
        self._engine = engine
        self._on_gpu = backend in GPU_RUNTIMES
        self._images = np.random.default_rng(SEED).integers(0, 256, (wanted.batch, *wanted.size_hw, 3), dtype=np.uint8)
        for _ in range(2):
            engine.infer(self._images)
        return {"precision": engine.precision}

    def outputs(self, file: str) -> dict[str, Any]:
        """Save every head's output for the images that all cases are measured with."""
        engine, images = self._opened()
        np.savez(file, **engine.infer(images))  # type: ignore[arg-type]
        return {}

    def infer(self, images: str, outputs: str) -> dict[str, Any]:
        """One pass over the images of a file (.npy); every head's output goes to another (.npz)."""
        engine, _ = self._opened()
        np.savez(outputs, **engine.infer(np.load(images, allow_pickle=False)))  # type: ignore[arg-type]
        return {}

    def measure(self, seconds: float) -> dict[str, Any]:
        """`infer` one by one, by the clock and by processor time."""
        engine, images = self._opened()
        self._wake(engine, images)
        return asdict(time_passes(lambda: engine.infer(images), seconds))

    def measure_gpu(self, seconds: float) -> dict[str, Any]:
        """Passes as a GPU engine splits them."""
        engine, images = self._opened()
        self._wake(engine, images)
        timed: Any = engine
        return asdict(time_gpu_passes(timed, images, seconds))

    def measure_stream(self, seconds: float) -> dict[str, Any]:
        """Passes that may overlap."""
        engine, images = self._opened()
        self._wake(engine, images)
        return asdict(time_stream(engine, images, seconds))

    def memory(self) -> dict[str, Any]:
        """The largest resident memory so far, less what this process had before it loaded a runtime and the model."""
        return {"bytes": peak_bytes() - self._before_bytes}

    def open_floor(self, threads: int) -> dict[str, Any]:
        from nddr_deploy.benchmark.floor import Kernels

        self._floor = Kernels(threads=threads)
        return {"not_run": self._floor.not_run}

    def measure_floor(self) -> dict[str, Any]:
        return {"rates": [asdict(rate) for rate in self._floor.measure()]}

    def open_gpu_floor(self) -> dict[str, Any]:
        self._floor = optional.load("nddr_deploy.benchmark.gpu_floor:GpuKernels", extra="train")()
        return {"not_run": self._floor.not_run}

    def measure_gpu_floor(self) -> dict[str, Any]:
        rates, copies = self._floor.measure()
        return {"rates": [asdict(rate) for rate in rates], "copies": copies}

    def stream(self, input: str, frames: int) -> dict[str, Any]:
        """Run the first frames of a source from end to end."""
        from nddr_deploy.benchmark.end_to_end import stream

        engine, _ = self._opened()
        return asdict(stream(engine, input, frames))

    def _wake(self, engine: Engine, images: Image) -> None:
        if self._on_gpu:
            keep_busy(lambda: engine.infer(images), WAKE_S)

    def _opened(self) -> tuple[Engine, Image]:
        if self._engine is None or self._images is None:
            raise NddrError("No engine is open in this worker.")
        return self._engine, self._images


def check_same_work(found: Manifest, wanted: Manifest, backend: str) -> None:
    """Times are only compared of cases that return the same, from the same images.

    Raises:
        ConfigError: other tasks, decoded outputs against raw ones, or images of another size.
    """
    names, expected = ([task.name for task in manifest.tasks] for manifest in (found, wanted))
    torch = backend.startswith("torch")
    this = "The checkpoint" if torch else "This case's file"
    if names != expected:
        raise ConfigError(
            f"{this} returns {found.outputs} {', '.join(names)}; the measured model {wanted.outputs} "
            f"{', '.join(expected)}. Compare with an export of all tasks."
        )
    if found.outputs != wanted.outputs:
        advice = (
            "PyTorch on a CPU does not decode: measure an export with --outputs raw, or leave this case out."
            if torch
            else f"Give an export with --outputs {wanted.outputs}, for decoding takes time, too."
        )
        raise ConfigError(f"{this} returns {found.outputs} outputs, the measured model {wanted.outputs} ones. {advice}")
    other_size = "size" not in found.dynamic and found.size_hw != wanted.size_hw
    other_batch = "batch" not in found.dynamic and found.batch != wanted.batch
    if other_size or other_batch:
        (h, w), (height, width) = found.size_hw, wanted.size_hw
        raise ConfigError(
            f"{this} takes {found.batch} images of {h}x{w}, the measured model {wanted.batch} of {height}x{width}. "
            "Give an export of the same size and batch."
        )


def main() -> None:
    """Answer orders from stdin until it ends. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    orders = Orders()
    for line in sys.stdin:
        values = json.loads(line)
        carry_out: Callable[..., dict[str, Any]] = getattr(orders, values.pop("order"))
        try:
            answer = carry_out(**values)
        except NddrError as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
