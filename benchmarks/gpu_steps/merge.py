"""The network with the convolutions of each NDDR layer merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gpu_steps.pictures import evaluation_images
from gpu_steps.work import Work
from nddr_deploy import open_engine
from nddr_deploy.errors import ParityError
from nddr_deploy.files import finished_file
from nddr_deploy.graph.merge_convolutions import merge_convolutions
from nddr_deploy.graph.metadata import read_model

TOLERANCE = 1e-4  # of a head's range: sums in another order


def run(work: Work, network: str) -> tuple[dict[str, Any], list[Path]]:
    """`merged.onnx`, which agrees with `model.onnx` in ONNX Runtime.

    Raises:
        ParityError: it does not.
    """
    path = work.path(network, "merged.onnx")
    separate = read_model(work.path(network, "model.onnx"))
    merged = merge_convolutions(separate)
    with finished_file(path) as temporary:
        onnx.save_model(merged, temporary)
    image = evaluation_images(work)[:1]
    outputs = []
    for file in (work.path(network, "model.onnx"), path):
        with open_engine(file, "onnxruntime") as engine:
            outputs.append(engine.infer(image))
    off = {name: float(np.abs(outputs[1][name] - one).max() / np.ptp(one)) for name, one in outputs[0].items()}
    if max(off.values()) > TOLERANCE:
        raise ParityError(f"{network}: merging changed an output by {max(off.values()):.1e} of its range.")
    counts = [sum(node.op_type == "Conv" for node in model.graph.node) for model in (separate, merged)]
    return {"convolutions": counts, "difference": off}, [path]
