"""One engine of one network: built, its layers read back, compared with ONNX Runtime."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpu_steps.work import Work
from nddr_deploy.build.checks import LIMITS
from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines.plan_file import manifest_path
from nddr_deploy.engines.trt import TensorRTEngine

SLOWEST = 12
STREAMS = 2  # one per task: as many as could ever run side by side


@dataclass(frozen=True)
class Variant:
    """How an engine is built.

    Attributes:
        precision: "fp32", "fp16" or "int8".
        source: the ONNX file.
        aux_streams: beside the pass's own; None leaves it to TensorRT.
    """

    precision: str
    source: str = "model.onnx"
    aux_streams: int | None = None


MAIN = {"fp16": Variant("fp16"), "int8": Variant("int8", "int8.onnx"), "fp32": Variant("fp32")}
TRIED = {f"fp16-aux{count}": Variant("fp16", aux_streams=count) for count in range(STREAMS + 1)} | {
    "fp16-merged": Variant("fp16", "merged.onnx"),
    "fp16-compare": Variant("fp16", "compare.onnx"),  # labels without TensorRT's TopK
}
VARIANTS = MAIN | TRIED


def run(work: Work, network: str, variant: str) -> tuple[dict[str, Any], list[Path]]:
    """`VARIANT.trt` for one image of the models' size, decoded outputs, and its manifest.

    What nddr-build would refuse for its layers or its results is built all the same, to be measured; whether it would
    is in the result, as are the slowest layers, and how many kernels add in FP16.

    Raises:
        As `build_engine`.
    """
    chosen = VARIANTS[variant]
    plan = work.path(network, f"{variant}.trt")
    report = build_engine(
        work.path(network, chosen.source),
        plan,
        precision=chosen.precision,
        aux_streams=chosen.aux_streams,
        images=str(work.path("pictures", "calibration")),
        timing_cache=work.path("timing.cache"),
        least_share=0.01,
        differing=1.0,
    )
    print(report.text())
    most = LIMITS[chosen.precision][1]
    with TensorRTEngine(plan) as engine:
        height, width = engine.manifest.size_hw
        seconds = engine.time_layers(np.zeros((1, height, width, 3), np.uint8))
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:SLOWEST]
    found = {
        "usual_parity": {head.task: bool(head.outside <= most) for head in report.parity.heads},
        "layers_s": sum(seconds.values()),
        "slowest_layers": [{"name": name, "s": value} for name, value in slowest],
        "kernels_adding_in_fp16": len(re.findall(r"f16f16_f16f16_f16", report.layers)),
        "kernels_adding_in_fp32": len(re.findall(r"f16f16_f16f32_f32", report.layers)),
    }
    return {**report.to_dict(), **found}, [plan, manifest_path(plan)]
