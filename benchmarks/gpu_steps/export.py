"""Each network as a checkpoint, as ONNX files, and what PyTorch says of the pictures in FP32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gpu_steps.networks import random_checkpoint
from gpu_steps.pictures import evaluation_images, samples
from gpu_steps.work import Work
from nddr_deploy import export_checkpoint, save_checkpoint
from nddr_deploy.engines.eager import TorchEngine
from nddr_deploy.evaluate.decode import decode_batch
from nddr_deploy.files import finished_file
from nddr_deploy.graph.decode_graph import append_decoders
from nddr_deploy.graph.flops import count_flops
from nddr_deploy.graph.metadata import read_model
from nddr_deploy.graph.static import fix_input


def run(work: Work, network: str) -> tuple[dict[str, Any], list[Path]]:
    """`ckpt.pt`, `dynamic.onnx` (any batch), `model.onnx` (batch 1, raw), `decoded.onnx`, `compare.onnx` (decoded
    without argmax), `reference.npz`."""
    names = ("ckpt.pt", "dynamic.onnx", "model.onnx", "decoded.onnx", "compare.onnx", "reference.npz")
    checkpoint, dynamic, model, decoded, compare, reference = files = [work.path(network, name) for name in names]
    trained = random_checkpoint(network, work.settings.width, samples(work, "train", work.settings.calibration))
    save_checkpoint(checkpoint, trained)
    exported = export_checkpoint(checkpoint, dynamic, dynamic=["batch"])
    raw = fix_input(read_model(dynamic), batch=1)
    graphs = ((raw, model), (append_decoders(raw), decoded), (append_decoders(raw, labels="compare"), compare))
    for graph, path in graphs:
        with finished_file(path) as temporary:
            onnx.save_model(graph, temporary)
    images = evaluation_images(work)
    with TorchEngine(checkpoint, precision="fp32") as engine:
        outputs = engine.infer(images)
        truth = decode_batch(outputs, engine.manifest, work.settings.size_hw)
    np.savez(reference, **truth, **{f"raw.{name}": values for name, values in outputs.items()})
    shares = np.bincount(truth["segmentation"].ravel()) / truth["segmentation"].size
    return {
        "network": exported.manifest.network,
        "notes": list(trained.notes),
        "size_hw": list(work.settings.size_hw),
        "width": work.settings.width,
        "parameters": sum(tensor.numel() for tensor in trained.weights.values()),
        "flops": count_flops(raw, work.settings.size_hw, batch=1),
        "parity": exported.parity.to_dict(),
        "classes_seen": int((shares > 0.001).sum()),
        "largest_class": float(shares.max()),
    }, files
