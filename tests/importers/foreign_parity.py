"""A foreign file through export and ONNX Runtime, against the forward pass written from formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from foreign_weights import Image, picture
from torch import Tensor

from nddr_deploy.engines import open_engine
from nddr_deploy.export.recipe import export_checkpoint
from nddr_deploy.manifest import Manifest
from nddr_deploy.resample import bilinear
from nddr_deploy.resize import Grid

TOLERANCE = (
    1e-3  # max-abs, on outputs of order one: a right float32 import stays below 3e-4, the mildest error above 0.04
)
Outputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Result:
    image: Image
    manifest: Manifest
    found: dict[str, Tensor]
    expected: dict[str, Tensor]


def check_parity(
    file: Path, forward: Callable[[Image], Outputs], size_hw: tuple[int, int], *, onnx_file: Path, **options: Any
) -> Result:
    """Export `file` at a size, run the ONNX file on one random picture, and compare every task's raw output."""
    image = picture(size_hw)
    export_checkpoint(file, onnx_file, size_hw=size_hw, **options)
    with open_engine(onnx_file) as engine:
        found = {name: torch.from_numpy(output) for name, output in engine.infer(image[None]).items()}
        manifest = engine.manifest
    with torch.inference_mode():
        expected = dict(forward(image))

    assert [task.name for task in manifest.tasks] == list(expected)
    assert list(found) == list(expected)
    for name, output in expected.items():
        assert 0.2 < spread(output) < 20, f"{name}: a tolerance means little on outputs of {spread(output):.2g}"
        assert found[name].shape == output.shape
        assert float((found[name] - output).abs().max()) <= TOLERANCE, name
    assert manifest.size_hw == size_hw
    return Result(image, manifest, found, expected)


def spread(output: Tensor) -> float:
    """The root of the mean square: the standard deviation around 0."""
    return float(output.square().mean().sqrt())


def largest_difference(one: Outputs, other: Outputs) -> float:
    """Over all tasks; infinite where shapes differ."""
    return max(
        float((output - other[name]).abs().max()) if output.shape == other[name].shape else np.inf
        for name, output in one.items()
    )


def check_upsampled(result: Result, upsample: Callable[[Tensor, tuple[int, int]], Tensor]) -> None:
    """The manifest's convention brings the exported output where the format's own upsampling brings the true one."""
    for name, output in result.expected.items():
        size = result.manifest.size_hw
        raw = result.found[name][0].numpy()
        grid = Grid.between((raw.shape[1], raw.shape[2]), size, result.manifest.resize)
        assert np.abs(bilinear(raw, grid) - upsample(output, size)[0].numpy()).max() <= TOLERANCE, name


def check_plain_graph(onnx_file: Path) -> None:
    """One file, opset 17, no BatchNormalization."""
    model = onnx.load(onnx_file, load_external_data=False)
    assert [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [17]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
