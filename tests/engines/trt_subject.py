"""Models with the plans that were built of them on a simulated GPU, and how results are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from simulated.gpu import Work
from simulated.simulate import Machine, simulate

from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines import open_engine
from nddr_deploy.evaluate.decode import decode_batch
from nddr_deploy.graph.metadata import manifest_of, write_manifest

SEEDS = range(4)  # in some, streams run alone, in others late, or in turns
ENDS = (1, 2, 4)


class Subject:
    """A model and the plan that was built of it, in FP32.

    Attributes:
        model: writes and knows the images, as `handmade`.
        plan: its path.
    """

    def __init__(self, model: Any, plan: Path) -> None:
        self.model, self.plan = model, plan
        self._reference = open_engine(model.path, "onnxruntime", threads=1)

    def images(self, count: int = 1, seed: int = 0) -> Any:
        return self.model.images(count, seed)

    def expected(self, images: Any, *, decoded: bool = False) -> dict[str, Any]:
        """By ONNX Runtime on the CPU, decoded there."""
        outputs = self._reference.infer(images)
        return decode_batch(outputs, self._reference.manifest, images.shape[1:3]) if decoded else outputs


def build(model: Any, folder: Path, version: str, *, heads: int = 3, **options: Any) -> Subject:
    """In FP32 with raw outputs, unless the options of `build_engine` say otherwise."""
    if heads == 2:
        drop_age(model.path)
    plan = folder / "model.trt"
    with simulate(version):
        build_engine(model.path, plan, **{"precision": "fp32", "outputs": "raw", "timing_cache": None, **options})
    return Subject(model, plan)


def drop_age(path: Path) -> None:
    """Of three heads, leave the two whose outputs have the same shape."""
    model = onnx.load(path)
    nodes, outputs = model.graph.node, model.graph.output
    for node in [node for node in nodes if node.output[0].startswith("age")]:
        nodes.remove(node)
    outputs.remove(next(output for output in outputs if output.name == "age"))
    manifest = manifest_of(model, source=str(path))
    write_manifest(model, manifest.model_copy(update={"tasks": manifest.tasks[:2]}))
    onnx.save(model, path)


def check(outputs: dict[str, Any], expected: dict[str, Any]) -> None:
    """Every head by name: labels equal, the rest within what float32 sums of a few products differ by."""
    assert list(outputs) == list(expected)
    for name, output in outputs.items():
        assert (output.dtype, output.shape) == (expected[name].dtype, expected[name].shape), name
        if output.dtype == np.uint8:
            assert np.array_equal(output, expected[name]), name
        else:
            assert np.abs(output - expected[name]).max() <= 1e-5 * max(1.0, np.ptp(expected[name])), name


def in_flight(machine: Machine) -> list[str]:
    return [entry.what for stream in machine.gpu.streams for entry in stream.queue if isinstance(entry, Work)]
