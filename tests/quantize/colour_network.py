"""A small network of two or three streams that knows colours, its pictures, and data with their truth.

Every layer nearly hands on what it reads, plus noise: the classes are red, green and blue, whichever is strongest; the
normal is the colour around grey; depth is brightness. So it is right without any training, and what integers cost it
can be told from what it should say.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image as Pillow

from nddr_deploy.data.base import Sample
from nddr_deploy.graph.metadata import write_manifest
from nddr_deploy.manifest import Manifest
from nddr_deploy.tasks import Depth, Normals, Segmentation, Task
from nddr_deploy.tasks.base import Array

SIZE = (21, 34)  # odd, not square, and not a multiple of the stride
STRIDE, WIDTH = 2, 16
TASKS: tuple[Task, ...] = (Segmentation(classes=("red", "green", "blue")), Normals(), Depth())
HEADS = {"segmentation": 4.0, "normals": 2.0, "depth": 1.0}


def layer(place: str, task: str) -> str:
    """The name of a layer's node, as nddr-export gives it."""
    return {
        "stage": f"stages.1.{task}.conv/Conv",
        "fusion": f"fusions.0.layers.{task}.conv/Conv",
        "last": f"stages.2.{task}.conv/Conv",
    }[place]


def network(
    count: int = 2,
    *,
    scales: Sequence[float] = (1.0, 1.0, 1.0),
    spoiled: Sequence[str] = (),
    batch: int = 1,
    dynamic: Sequence[str] = (),
    size_hw: tuple[int, int] = SIZE,
    opset: int = 17,
    width: int = WIDTH,
) -> onnx.ModelProto:
    """Streams of three layers that may be quantised each; stem and head stay in float.

    Args:
        count: of tasks.
        scales: of what each stream brings to the NDDR layer.
        spoiled: layers with one huge weight, at a channel in which nothing ever comes: float does not notice it, but
            in integers it leaves no steps for the others.
        width: channels; below 16 nothing is quantised.
    """
    tasks = TASKS[:count]
    net = _Net(width)
    streams = []
    for task, scale in zip(tasks, scales, strict=False):
        stem = net.conv(f"stages.0.{task.name}", "normal", net.stem(), size=3, stride=STRIDE)
        streams.append(net.conv(f"stages.1.{task.name}", stem, scale * net.nearly_alike()))
    net.add("Concat", streams, "stages.1/Concat", axis=1)
    for row, task in enumerate(tasks):
        blocks = [net.nearly_alike(0.9 if row == column else 0.05) / scales[column] for column in range(count)]
        fused = net.conv(f"fusions.0.layers.{task.name}", "stages.1/Concat", np.concatenate(blocks, axis=1))
        last = net.conv(f"stages.2.{task.name}", fused, net.nearly_alike())
        net.head(task, last)
    for name in spoiled:
        net.spoil(name)
    manifest = Manifest(
        tasks=tasks, size_hw=size_hw, batch=batch, dynamic=tuple(dynamic), opset=opset, network="colours + nddr (conv)"
    )
    model = net.model(manifest, opset)
    write_manifest(model, manifest)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Net:
    def __init__(self, width: int) -> None:
        self.rng = np.random.default_rng(5)
        self.width = width
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {"scale": np.float32(1 / 255)}
        self.add("Cast", ["images"], "float", to=TensorProto.FLOAT)
        self.add("Transpose", ["float"], "channels_first", perm=[0, 3, 1, 2])
        self.add("Mul", ["channels_first", "scale"], "normal")

    def add(self, operation: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operation, inputs, [name], name=name, **attributes))
        return name

    def conv(self, name: str, source: str, weight: Array, *, size: int = 1, stride: int = 1) -> str:
        """With a bias and a ReLU; the size is that of a kernel whose middle the weights are in."""
        kernel = np.zeros((*weight.shape, size, size), np.float32)
        kernel[:, :, size // 2, size // 2] = weight
        self.weights[f"{name}.weight"] = kernel
        self.weights[f"{name}.bias"] = self.rng.uniform(0.0, 0.02, len(weight)).astype(np.float32)
        self.weights[f"{name}.bias"] *= np.abs(weight).max()
        inputs = [source, f"{name}.weight", f"{name}.bias"]
        conv = self.add("Conv", inputs, f"{name}.conv/Conv", pads=[size // 2] * 4, strides=[stride] * 2)
        return self.add("Relu", [conv], f"{name}.conv/Relu")

    def stem(self) -> Array:
        """The colour, what it lacks to white, and mixtures of it."""
        mixtures = self.rng.uniform(0, 0.5, (self.width, 3))
        mixtures[:3] = np.eye(3)
        return mixtures

    def nearly_alike(self, own: float = 1.0) -> Array:
        return own * np.eye(self.width) + self.rng.normal(0, 0.01, (self.width, self.width))

    def head(self, task: Task, source: str) -> None:
        weight = np.zeros((1 if task.name == "depth" else 3, self.width), np.float32)
        weight[:, :3] = HEADS[task.name] * (np.full((1, 3), 1 / 3) if task.name == "depth" else np.eye(3))
        bias = {"normals": -1.0, "depth": 1.0}.get(task.name, 0.0)
        self.weights[f"heads.{task.name}.weight"] = weight[..., None, None]
        self.weights[f"heads.{task.name}.bias"] = np.full(len(weight), bias, np.float32)
        inputs = [source, f"heads.{task.name}.weight", f"heads.{task.name}.bias"]
        self.nodes.append(helper.make_node("Conv", inputs, [task.name], name=f"heads.{task.name}/Conv"))

    def spoil(self, name: str) -> None:
        node = next(node for node in self.nodes if node.name == name)
        source = node.input[0].removesuffix("/Relu").removesuffix(".conv")
        channel = self.width - 1
        if source == "stages.1/Concat":
            source = name.split("layers.")[1].split(".")[0]
            source = next(key for key in self.weights if key.startswith("stages.1.") and ".weight" in key)[:-7]
        self.weights[f"{source}.weight"][channel] = 0
        self.weights[f"{source}.bias"][channel] = 0
        self.weights[node.input[1]][:, channel] = 500.0

    def model(self, manifest: Manifest, opset: int) -> onnx.ModelProto:
        count: Any = "N" if "batch" in manifest.dynamic else manifest.batch
        rows: list[Any] = ["H", "W"] if "size" in manifest.dynamic else list(manifest.size_hw)
        images = helper.make_tensor_value_info("images", TensorProto.UINT8, [count, *rows, 3])
        outputs = [
            helper.make_tensor_value_info(
                task.name, TensorProto.FLOAT, [count, 1 if task.name == "depth" else 3, None, None]
            )
            for task in manifest.tasks
        ]
        weights = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in self.weights.items()]
        graph = helper.make_graph(self.nodes, "colours", [images], outputs, weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def picture(seed: int, size_hw: tuple[int, int] = SIZE) -> Array:
    """Soft colours: uint8 (H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Pillow.fromarray(coarse).resize(size_hw[::-1], Pillow.Resampling.BICUBIC))


def write_pictures(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        content = io.BytesIO()
        Pillow.fromarray(picture(seed)).save(content, "png")
        (folder / f"{seed:03}.png").write_bytes(content.getvalue())
    return folder


class Colours:
    """Pictures with their truth; "val" and "train" share none."""

    def __init__(
        self,
        split: str,
        *,
        count: int = 8,
        first: int = 0,
        tasks: Sequence[str] = ("segmentation", "normals", "depth"),
        classes: Sequence[str] = ("red", "green", "blue"),
        unknown: Sequence[str] = (),
    ) -> None:
        known = {task.name: task for task in (Segmentation(classes=tuple(classes)), *TASKS[1:])}
        self.tasks = tuple(known[name] for name in tasks)
        self.unknown = tuple(unknown)
        self._seeds = range(first + (1000 if split == "val" else 0), first + (1000 if split == "val" else 0) + count)

    def __len__(self) -> int:
        return len(self._seeds)

    def __getitem__(self, index: int) -> Sample:
        image = picture(self._seeds[index])
        colour = image / np.float32(255)
        vector = 2 * colour - 1
        targets: dict[str, Any] = {
            "segmentation": image.argmax(axis=2).astype(np.uint8),
            "normals": (vector / np.linalg.norm(vector, axis=2, keepdims=True)).astype(np.float32),
            "depth": (1 + colour.mean(axis=2)).astype(np.float32),
        }
        if "depth" in self.unknown:
            targets["depth"] = np.zeros_like(targets["depth"])
        return Sample(f"colours-{self._seeds[index]}", image, {task.name: targets[task.name] for task in self.tasks})
