"""A narrow trained-looking network, as a checkpoint and exported, with a reference that no engine takes part in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from nddr_deploy.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nddr_deploy.export.recipe import export_checkpoint
from nddr_deploy.graph.metadata import write_manifest
from nddr_deploy.manifest import Manifest
from nddr_deploy.network import NetworkConfig, build_network
from nddr_deploy.network.image_input import ImageInput
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.tasks import Age, Normals, Segmentation

# Segmentation and normals have outputs of the same shape: swapped, they go unnoticed by anything that looks at shapes.
TASKS = (Segmentation("segmentation", classes=("floor", "wall", "sofa")), Normals("normals"), Age("age", classes=4))
SIZE_HW = (41, 57)


class Trained:
    """One form of the network.

    Attributes:
        tolerance: of the output's range: float32 through 20 layers.
    """

    tolerance = 1e-4

    def __init__(self, path: Path, manifest: Manifest, checkpoint: Path) -> None:
        self.path = path
        self.manifest = manifest
        self._checkpoint = checkpoint

    def images(self, count: int = 1, seed: int = 0) -> Any:
        size = (count, *self.manifest.size_hw, 3)
        return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)

    def expected(self, images: Any) -> dict[str, Any]:
        """The unfolded network in float64."""
        checkpoint = load_checkpoint(self._checkpoint)
        network = checkpoint.build().double()
        with torch.inference_mode():
            outputs = network(ImageInput(checkpoint.preprocess)(torch.tensor(images)).double())
        return {name: output.numpy() for name, output in outputs.items()}


def write_checkpoint(path: Path) -> Trained:
    torch.manual_seed(0)
    config = NetworkConfig(backbone="vgg16_deeplab", backbone_options={"width": 0.0625}, head_options={"width": 0.0625})
    network = build_network(config, TASKS)
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):  # the statistics of a fresh network prove nothing
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    save_checkpoint(path, Checkpoint(config, TASKS, Preprocess(), SIZE_HW, network.state_dict()))
    return Trained(path, Manifest(tasks=TASKS, size_hw=SIZE_HW, dynamic=("batch", "size")), path)


def quantise(exported: Trained, path: Path) -> Path:
    """The exported network with Q/DQ nodes for CPUs around all convolutions but the heads'."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        left = iter([{"images": exported.images(seed=seed)} for seed in range(3)])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.left, None)

    model = onnx.load(exported.path)
    heads = [node.name for node in model.graph.node if node.op_type == "Conv" and node.name.startswith("heads")]
    quantize_static(
        exported.path,
        path,
        Images(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=heads,
    )
    quantised = onnx.load(path)
    write_manifest(quantised, exported.manifest)
    onnx.save(quantised, path)
    return path


def export(trained: Trained, path: Path, **options: Any) -> Trained:
    report = export_checkpoint(trained.path, path, **options)
    return Trained(path, report.manifest, trained.path)
