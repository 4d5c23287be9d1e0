"""The graphs that TensorRT would be given, as far as they can be made and judged without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gpu_steps.pictures import evaluation_images
from gpu_steps.work import Work
from nddr_deploy import open_engine
from nddr_deploy.build.recipe import write_graph
from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.errors import ParityError

TOLERANCE = 1e-2  # of a head's range in FP32: what FP16 may cost


def run(work: Work, network: str) -> tuple[dict[str, Any], list[Path]]:
    """`model.fp16.onnx`, decoded, which ONNX Runtime's CUDA provider runs; and in a dry run every other graph, too.

    The FP16 graph with raw outputs is run by ONNX Runtime on the CPU and compared with the FP32 one.

    Raises:
        ParityError: a head is further off than FP16 explains.
    """
    folder, pictures = work.path(network, "x").parent, str(work.path("pictures", "calibration"))
    wanted = [("model", "fp16", 10, "decoded"), ("model", "fp16", 10, "raw")]
    if work.settings.dry_run:
        wanted += [("model", "fp16", 8, "decoded"), ("int8", "int8", 8, "decoded"), ("int8", "int8", 10, "decoded")]
    graphs: dict[str, Any] = {}
    files = []
    for source, precision, major, outputs in wanted:
        name = f"{precision} for TensorRT {major}, {outputs}"
        path = folder / f"typed.{precision}.{major}.{outputs}.onnx"
        typed = write_graph(
            folder / f"{source}.onnx", path, precision=precision, major=major, outputs=outputs, images=pictures
        )
        opsets = {entry.domain or "ai.onnx": entry.version for entry in typed.model.opset_import}
        graphs[name] = {"opset": opsets["ai.onnx"], "share": typed.share, "kept_fp32": list(typed.reasons)}
        files.append(path)
    return {"graphs": graphs, "fp16_off": _off(work, network, folder / "typed.fp16.10.raw.onnx")}, files


def _off(work: Work, network: str, half: Path) -> dict[str, float]:
    """Head -> its largest difference from FP32 over the evaluation pictures, as a share of its range there."""
    images = evaluation_images(work)
    run_half = run_bytes(onnx.load_model(half).SerializeToString())
    off: dict[str, float] = {}
    with open_engine(work.path(network, "model.onnx"), "onnxruntime") as engine:
        for index in range(len(images)):
            expected, found = engine.infer(images[index : index + 1]), run_half(images[index : index + 1])
            for name, values in expected.items():
                off[name] = max(off.get(name, 0.0), float(np.abs(found[name] - values).max() / np.ptp(values)))
    worst = max(off, key=lambda name: off[name])
    if not off[worst] <= TOLERANCE:
        raise ParityError(f"{network}: {worst} in FP16 is off by {off[worst]:.1e} of its range; {TOLERANCE:g} may be.")
    return off
