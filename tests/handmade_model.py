"""A model small enough to compute by hand, for tests of everything that runs models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.graph.metadata import write_manifest
from nddr_deploy.manifest import Manifest
from nddr_deploy.tasks import Age, Normals, Segmentation

# Two heads of the same shape, so that swapping them goes unnoticed by anything that looks at shapes only.
TASKS = (Segmentation("segmentation", classes=("floor", "wall", "sofa")), Normals("normals"), Age("age", classes=4))
STRIDE = 4
WEIGHTS = {
    "segmentation": np.float32([[1, 0, 0], [0, 2, 0], [0, 0, 3]]),  # (out, rgb)
    "normals": np.float32([[-1, 1, 0], [0, -1, 1], [1, 0, -1]]),
    "age": np.float32([[1, 1, 1], [2, 0, 0], [0, 2, 0], [0, 0, 2]]),
}


class HandMade:
    """What `write` wrote, and what it must return.

    Attributes:
        tolerance: of an output's range: float32 sums of a few products.
    """

    tolerance = 1e-5

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    def images(self, count: int = 1, seed: int = 0) -> Any:
        size = (count, *self.manifest.size_hw, 3)
        return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)

    def expected(self, images: Any) -> dict[str, Any]:
        seen = images[:, ::STRIDE, ::STRIDE].astype(np.float64) / 255  # the 1x1 convolution reads every fourth pixel
        dense = {name: np.einsum("nhwc,oc->nohw", seen, WEIGHTS[name]) for name in ("segmentation", "normals")}
        return {**dense, "age": seen.mean(axis=(1, 2)) @ WEIGHTS["age"].T}


def write(
    folder: Path,
    *,
    dynamic: tuple[str, ...] = (),
    batch: int = 1,
    size_hw: tuple[int, int] = (16, 24),
    manifest: bool = True,
) -> HandMade:
    """Write `model.onnx` into a folder."""
    path = folder / "model.onnx"
    described = Manifest(tasks=TASKS, size_hw=size_hw, batch=batch, dynamic=dynamic, opset=17)
    model = graph(described)
    if manifest:
        write_manifest(model, described)
    onnx.save(model, path)
    return HandMade(path, described)


def graph(manifest: Manifest) -> onnx.ModelProto:
    """Outputs stand in the graph in another order than in the manifest: only names may be believed."""
    rows: list[Any] = ["H", "W"] if "size" in manifest.dynamic else list(manifest.size_hw)
    count: Any = "N" if "batch" in manifest.dynamic else manifest.batch
    weights = [
        numpy_helper.from_array(np.float32(1 / 255), "scale"),
        *(numpy_helper.from_array(weight[..., None, None], f"{name}.weight") for name, weight in WEIGHTS.items()),
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["channels_first", "scale"], ["scaled"]),
        *(
            helper.make_node("Conv", ["scaled", f"{name}.weight"], [name], strides=[STRIDE, STRIDE])
            for name in ("segmentation", "normals")
        ),
        helper.make_node("Conv", ["scaled", "age.weight"], ["age.map"], strides=[STRIDE, STRIDE]),
        helper.make_node("GlobalAveragePool", ["age.map"], ["age.pooled"]),
        helper.make_node("Flatten", ["age.pooled"], ["age"]),
    ]
    outputs = [
        helper.make_tensor_value_info("age", TensorProto.FLOAT, [count, 4]),
        helper.make_tensor_value_info("normals", TensorProto.FLOAT, [count, 3, None, None]),
        helper.make_tensor_value_info("segmentation", TensorProto.FLOAT, [count, 3, None, None]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, [count, *rows, 3])
    body = helper.make_graph(nodes, "handmade", [images], outputs, weights)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
