"""A plan held against ONNX Runtime, head by head."""

from __future__ import annotations

from collections.abc import Sequence

from nddr_deploy.build.images import in_batches, resized
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.onnx_file import OnnxFile
from nddr_deploy.engines.plan_file import PlanFile, Profile
from nddr_deploy.engines.trt import TensorRTEngine
from nddr_deploy.evaluate.decode import decode_batch
from nddr_deploy.evaluate.parity import ParityReport, check_parity
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

# Precision -> (tolerance, as a share of a head's range; share of its values that may lie beyond). What lies further
# apart is no rounding: a layer overflowed, or two heads were exchanged. How much of a metric INT8 may cost is for a
# budget to say, not for this check.
LIMITS = {"fp32": (1e-3, 1e-3), "fp16": (2e-2, 2e-2), "int8": (2e-1, 1e-1)}


def parity_batches(images: Image, profile: Profile) -> list[Image]:
    """The pictures at the shape that the plan is fastest at; and where it takes others, some at the two ends."""
    batches = in_batches(resized(images, profile.opt[1:3]), profile.opt[0])
    for end in dict.fromkeys((profile.min, profile.max)):
        if end != profile.opt:
            batches.append(in_batches(resized(images, end[1:3]), end[0])[0])
    return batches


def check_plan(
    plan: PlanFile, onnx_file: OnnxFile, batches: Sequence[Image], *, differing: float | None = None
) -> ParityReport:
    """Run both on the same pictures, one after the other.

    Args:
        plan: just built.
        onnx_file: that it was built from; run by ONNX Runtime on the CPU, and decoded there where the plan decodes.
            With Q/DQ nodes among FP16 it runs as it is written, for optimised it would not compute what it says.
        batches: uint8 (N, H, W, 3) each, within the plan's profile.
        differing: share of a head's values that may differ by more than the tolerance; None is that of `LIMITS`.
    """
    about = plan.about
    tolerance, share = LIMITS[about.precision]
    share = share if differing is None else differing
    mixed = onnx_file.precision == "int8" and onnx_file.halves
    with open_engine(onnx_file.path, "onnxruntime-as-written" if mixed else "onnxruntime") as reference:
        expected = iter(
            [_reference(reference.infer(batch), batch, onnx_file, about.model.outputs) for batch in batches]
        )
    with TensorRTEngine(plan) as engine:
        return check_parity(
            lambda batch: next(expected),
            engine.infer,
            batches,
            about.model.tasks,
            tolerance=tolerance,
            share=share,
            outputs=about.model.outputs,
            resize=about.model.resize,
        )


def _reference(outputs: dict[str, Array], batch: Image, file: OnnxFile, wanted: str) -> dict[str, Array]:
    if file.manifest.outputs == wanted:
        return outputs
    return decode_batch(outputs, file.manifest, (batch.shape[1], batch.shape[2]))
