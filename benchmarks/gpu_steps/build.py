"""One engine of one network: built, its layers read back, compared with ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_steps.work import Work
from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines.plan_file import manifest_path

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
    "fp16-merged": Variant("fp16", "merged.onnx")
}
VARIANTS = MAIN | TRIED


def run(work: Work, network: str, variant: str) -> tuple[dict[str, Any], list[Path]]:
    """`VARIANT.trt` for one image of the models' size, decoded outputs, and its manifest.

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
    )
    print(report.text())
    return report.to_dict(), [plan, manifest_path(plan)]
