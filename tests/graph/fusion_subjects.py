"""Graphs whose streams meet, for the tests of the passes over NDDR layers."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from graph_subjects import run, small
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.data import open_dataset
from nddr_deploy.graph.calibration import Range, calibrate
from nddr_deploy.graph.channel_scales import region_of, scale
from nddr_deploy.graph.fusion_layers import fusion_layers
from nddr_deploy.graph.inference import infer, skeleton, tensor_shapes
from nddr_deploy.graph.lint_rule import Target
from nddr_deploy.graph.quantize import observed, quantize
from nddr_deploy.graph.roles import Flow
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

TASKS = ("segmentation", "normals", "depth")
Nodes = list[onnx.NodeProto]
Activation = Callable[[str, str], Nodes]  # (what it reads, what it makes)


def relu(source: str, result: str) -> Nodes:
    return [helper.make_node("Relu", [source], [result])]


def joined(
    scales: Sequence[float],
    *,
    channels: int = 16,
    activation: Activation = relu,
    between: Sequence[str] = (),
    also_read: Callable[[str], Nodes] | None = None,
    weights: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = (),
    images: Sequence[int | str] = (1, 17, 23, 3),
    seed: int = 0,
) -> onnx.ModelProto:
    """One convolution and ReLU per stream, an NDDR layer, and a head per task; node names are those of nddr-export.

    Args:
        scales: of each stream's values, so how many there are.
        activation: what each stream ends with.
        between: "Mul" and "Add" per channel, or "Relu", between the Concat and the NDDR convolutions.
        also_read: nodes that read the last stream, too.
        weights: of those nodes.
        outputs: of those nodes.
    """
    rng = np.random.default_rng(seed)
    tasks, count = TASKS[: len(scales)], len(scales)
    arrays: dict[str, Any] = dict(weights or {})
    nodes: Nodes = []
    for task, size in zip(tasks, scales, strict=True):
        name = f"stages.0.{task}.conv"
        arrays[f"{name}.weight"] = (size * rng.normal(size=(channels, 3, 3, 3))).astype(np.float32)
        arrays[f"{name}.bias"] = (size * rng.normal(size=channels)).astype(np.float32)
        inputs = ["x", f"{name}.weight", f"{name}.bias"]
        nodes.append(helper.make_node("Conv", inputs, [f"{name}/Conv"], pads=[1, 1, 1, 1]))
        nodes += activation(f"{name}/Conv", f"{name}/Relu")
    streams = [f"stages.0.{task}.conv/Relu" for task in tasks]
    value = f"stages.0.{tasks[0]}.conv/Concat"
    nodes.append(helper.make_node("Concat", streams, [value], axis=1))
    for place, operation in enumerate(between):
        inputs = [value]
        if operation != "Relu":
            arrays[f"between_{place}"] = rng.uniform(0.5, 2, size=(count * channels, 1, 1)).astype(np.float32)
            inputs.append(f"between_{place}")
        value = f"between_{place}/{operation}"
        nodes.append(helper.make_node(operation, inputs, [value]))
    for row, task in enumerate(tasks):
        name = f"fusions.0.layers.{task}.conv"
        blocks = [_block(rng, channels, own=row == column) for column in range(count)]
        arrays[f"{name}.weight"] = np.concatenate(blocks, axis=1)[:, :, None, None].astype(np.float32)
        arrays[f"{name}.bias"] = (0.1 * scales[row] * rng.normal(size=channels)).astype(np.float32)
        nodes.append(
            helper.make_node("Conv", [value, f"{name}.weight", f"{name}.bias"], [f"{name}/Conv"], kernel_shape=[1, 1])
        )
        nodes.append(helper.make_node("Relu", [f"{name}/Conv"], [f"{name}/Relu"]))
        head = f"heads.{task}.conv"
        arrays[f"{head}.weight"] = rng.normal(size=(3, channels, 1, 1)).astype(np.float32)
        nodes.append(helper.make_node("Conv", [f"{name}/Relu", f"{head}.weight"], [task], name=f"{head}/Conv"))
    if also_read:
        nodes += also_read(streams[-1])
    return small(nodes, arrays, dict.fromkeys((*tasks, *outputs), TensorProto.FLOAT), images=images)


def _block(rng: np.random.Generator, channels: int, *, own: bool) -> Array:
    """Of a trained NDDR layer: near the diagonal start, 0.9 for a task's own channels, the rest small."""
    return np.asarray((0.9 if own else 0.02) * np.eye(channels) + 0.02 * rng.normal(size=(channels, channels)))


def pictures(size_hw: tuple[int, int], count: int, seed: int = 0) -> list[Image]:
    """Smooth pictures with noise, (1, H, W, 3) each."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    waves = [
        np.sin(rng.uniform(0.1, 0.6) * rows + rng.uniform(0, 6)) * np.cos(rng.uniform(0.1, 0.6) * columns)
        for _ in range(3 * count)
    ]
    smooth = 128 + 80 * np.stack(waves, axis=-1).reshape(*size_hw, count, 3).transpose(2, 0, 1, 3)
    noisy = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
    return list(noisy[:, None])


def size_of(model: onnx.ModelProto) -> tuple[int, int]:
    height, width = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:3])
    return height, width


def stream_tensors(model: onnx.ModelProto) -> list[str]:
    return [stream.tensor for layer in fusion_layers(model) for stream in layer.streams]


def stream_ranges(model: onnx.ModelProto, images: Sequence[Image]) -> dict[str, Range]:
    return calibrate(model, stream_tensors(model), images, run)


def outputs_of(model: onnx.ModelProto, images: Sequence[Image]) -> dict[str, Array]:
    infer_outputs = run(model)
    found = [infer_outputs(image) for image in images]
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def in_int8(
    model: onnx.ModelProto, target: Target, calibration: Sequence[Image], images: Sequence[Image]
) -> dict[str, Array]:
    """A model's outputs with 8-bit layers, calibrated on other images."""
    ranges = calibrate(model, observed(model, target), calibration, run, symmetric=target != "cpu")
    return outputs_of(quantize(model, ranges, target).model, images)


def sqnr_db(expected: Array, found: Array) -> float:
    """Signal to quantisation noise in decibels."""
    noise = np.square(found.astype(np.float64) - expected).mean()
    return float(10 * np.log10(np.square(expected.astype(np.float64)).mean() / noise))


def shrunk(model: onnx.ModelProto, task: str, factor: float) -> onnx.ModelProto:
    """An equal model in which one stream is smaller by a factor wherever streams meet."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    shapes, outputs = tensor_shapes(infer(skeleton(changed))), [value.name for value in changed.graph.output]
    streams = [stream for layer in fusion_layers(changed) for stream in layer.streams if stream.task == task]
    regions = [region_of(Flow(changed), shapes, outputs, stream.tensor) for stream in streams]
    sizes = [stream.channels for stream in streams]
    scale(changed, [(region, np.full(size, 1 / factor)) for region, size in zip(regions, sizes, strict=True)])
    return changed


def named_weights(model: onnx.ModelProto) -> dict[str, Array]:
    return {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}


@cache
def _trained() -> tuple[bytes, list[Image]]:
    from rich.console import Console

    from nddr_deploy.export.recipe import export_checkpoint
    from nddr_deploy.training import run as training
    from nddr_deploy.training.config_file import config_from_dict

    settings = {
        "data": {"name": "rooms", "options": {"size_hw": [48, 64], "count": 48, "remember": True}},
        "tasks": ["segmentation", "normals"],
        "network": {
            "backbone": "resnet18",
            "backbone_options": {"width": 0.25, "output_stride": 16},
            "fusion": "nddr",
            "fusion_options": {"order": "conv-bn-relu"},
            "head": "conv1x1",
        },
        "loss": {"weights": {"segmentation": 1, "normals": 3}},
        "optimiser": {"name": "adamw", "lr": 0.005, "fusion_lr_factor": 1},
        "schedule": {"warmup_steps": 5},
        "steps": 40,
        "batch_size": 8,
        "eval_every": 40,
        "checkpoint_every": 40,
        "tensorboard": False,
        "seed": 1,
    }
    with TemporaryDirectory() as folder:
        settings["output"] = f"{folder}/run"
        report = training.train(config_from_dict(settings), console=Console(file=io.StringIO()))
        exported = export_checkpoint(report.checkpoint, Path(folder) / "model.onnx")
        content = exported.path.read_bytes()
    rooms: Any = open_dataset("rooms", "val", size_hw=[48, 64], count=16)
    return content, [rooms[number].image[None] for number in range(len(rooms))]


def trained() -> tuple[onnx.ModelProto, list[Image]]:
    """A ResNet-18 of quarter width with two tasks after some steps on synthetic rooms, and images it has not seen."""
    content, images = _trained()
    return onnx.load_from_string(content), images
