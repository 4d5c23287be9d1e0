"""The process behind `process.Worker`: opens one engine (or the floor's kernels), and measures it when told to."""

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
from nddr_deploy.benchmark.memory import peak_bytes, resident_bytes
from nddr_deploy.benchmark.timing import time_passes
from nddr_deploy.engines import BACKENDS, open_engine
from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import ConfigError, NddrError
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Image

SEED = 0


class Orders:
    """What a worker can be asked to do: every method is an order, its arguments and its answer are JSON values."""

    def __init__(self) -> None:
        self._before_bytes = resident_bytes()
        self._engine: Engine | None = None
        self._images: Image | None = None
        self._floor: Any = None

    def open(
        self, path: str, backend: str, threads: int, precision: str, compiled: bool, manifest: str
    ) -> dict[str, Any]:
        """Load the case and run it twice: kernels are chosen, and code is compiled, in the first pass."""
        wanted = Manifest.from_json(manifest, source="the exported model")
        engine: Engine
        if backend == "torch":
            torch_engine = optional.load(BACKENDS["torch"], extra="train")
            options: dict[str, Any] = {"size_hw": wanted.size_hw, "compiled": compiled}
            engine = torch_engine(Path(path), threads=threads, precision=precision, **options)
        else:
            engine = open_engine(path, backend, threads=threads, precision=precision)
        _check_same_work(engine.manifest, wanted)
        self._engine = engine
        self._images = np.random.default_rng(SEED).integers(0, 256, (wanted.batch, *wanted.size_hw, 3), dtype=np.uint8)
        for _ in range(2):
            engine.infer(self._images)
        return {"precision": engine.precision}

    def outputs(self, file: str) -> dict[str, Any]:
        """Save every head's output for the images that all cases are measured with."""
        engine, images = self._opened()
        np.savez(file, **engine.infer(images))  # type: ignore[arg-type]
        return {}

    def measure(self, seconds: float) -> dict[str, Any]:
        engine, images = self._opened()
        return asdict(time_passes(lambda: engine.infer(images), seconds))

    def memory(self) -> dict[str, Any]:
        """The largest resident memory so far, less what this process had before it loaded a runtime and the model."""
        return {"bytes": peak_bytes() - self._before_bytes}

    def open_floor(self, threads: int) -> dict[str, Any]:
        from nddr_deploy.benchmark.floor import Kernels

        self._floor = Kernels(threads=threads)
        return {"not_run": self._floor.not_run}

    def measure_floor(self) -> dict[str, Any]:
        return {"rates": [asdict(rate) for rate in self._floor.measure()]}

    def stream(self, input: str, frames: int) -> dict[str, Any]:
        """Run the first frames of a source from end to end."""
        from nddr_deploy.benchmark.end_to_end import stream

        engine, _ = self._opened()
        return asdict(stream(engine, input, frames))

    def _opened(self) -> tuple[Engine, Image]:
        if self._engine is None or self._images is None:
            raise NddrError("No engine is open in this worker.")
        return self._engine, self._images


def _check_same_work(found: Manifest, wanted: Manifest) -> None:
    names, expected = ([task.name for task in manifest.tasks] for manifest in (found, wanted))
    if (names, found.outputs) != (expected, wanted.outputs):
        raise ConfigError(
            f"The checkpoint returns {found.outputs} {', '.join(names)}; the exported model {wanted.outputs} "
            f"{', '.join(expected)}. Compare with an export of all tasks and raw outputs."
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
