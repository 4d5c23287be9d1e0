"""A network with Q/DQ pairs that TensorRT takes, quantised as nddr-quantize does.

Ranges are the extremes of a few pictures. How much accuracy can be kept is another question than how fast such an
engine is, and this step answers only the second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from gpu_steps.agreement import compare
from gpu_steps.work import Work
from nddr_deploy import open_engine
from nddr_deploy.build.images import build_images, in_batches
from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.files import finished_file
from nddr_deploy.graph.calibration import calibrate
from nddr_deploy.graph.metadata import manifest_of, read_model
from nddr_deploy.graph.quantize import observed, quantize
from nddr_deploy.graph.tensorrt_lint import check_for_tensorrt


def run(work: Work, network: str) -> tuple[dict[str, Any], list[Path]]:
    """`int8.onnx`: opset 17 and float32 outside of the pairs. TensorRT 8.6 takes it as it is; for 10 and later
    nddr-build makes the rest FP16, for which its scales leave room, and lifts the opset."""
    model, path = work.path(network, "model.onnx"), work.path(network, "int8.onnx")
    plain = read_model(model)
    manifest = manifest_of(plain, source=str(model))
    images = build_images(str(work.path("pictures", "calibration")), work.settings.size_hw, manifest.preprocess)
    ranges = calibrate(plain, observed(plain, "tensorrt"), in_batches(images, 1), run_bytes)
    quantised = quantize(plain, ranges, "tensorrt")
    for major in (8, 10):
        check_for_tensorrt(quantised.model, precision="int8", major=major, source=str(path))
    with finished_file(path) as temporary:
        onnx.save_model(quantised.model, temporary)
    with open_engine(path, "onnxruntime") as engine:
        agreement = compare(work, network, engine)
    pairs = sum(node.op_type == "QuantizeLinear" for node in quantised.model.graph.node)
    left_in_float = [entry.node for entry in quantised.kept]
    return {"pairs": pairs, "left_in_float": left_in_float, "onnxruntime": agreement}, [path]
