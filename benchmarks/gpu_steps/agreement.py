"""What engines return for the rendered pictures, held against PyTorch in FP32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gpu_steps.pictures import evaluation_images
from gpu_steps.work import Work
from nddr_deploy import open_engine
from nddr_deploy.engines.base import Engine
from nddr_deploy.evaluate.decode import decode_batch


def run(work: Work, network: str, variants: list[str]) -> tuple[dict[str, Any], list[Path]]:
    """Of every engine that was built."""
    found: dict[str, Any] = {}
    for variant in variants:
        plan = work.path(network, f"{variant}.trt")
        if work.result(f"build.{network}.{variant}") is None:
            continue
        with open_engine(plan) as engine:
            found[variant] = compare(work, network, engine)
    return {"pictures": work.settings.evaluation, "engines": found}, []


def compare(work: Work, network: str, engine: Engine) -> dict[str, float]:
    """The share of pixels with PyTorch's label, and the angles between normals in degrees."""
    images = evaluation_images(work)
    with np.load(work.path(network, "reference.npz"), allow_pickle=False) as arrays:
        truth = {name: arrays[name] for name in ("segmentation", "normals")}
    equal, degrees = [], []
    for index in range(len(images)):
        outputs = engine.infer(images[index : index + 1])
        if engine.manifest.outputs == "raw":
            outputs = decode_batch(outputs, engine.manifest, work.settings.size_hw)
        equal.append(float((outputs["segmentation"][0] == truth["segmentation"][index]).mean()))
        degrees.append(angles(outputs["normals"][0], truth["normals"][index]).ravel())
    found = np.concatenate(degrees)
    return {
        "labels_equal": float(np.mean(equal)),
        "labels_equal_worst_picture": min(equal),
        "degrees_mean": float(found.mean()),
        "degrees_median": float(np.median(found)),
        "degrees_p99": float(np.percentile(found, 99)),
    }


def angles(one: Any, other: Any) -> Any:
    """Degrees between unit vectors (..., 3); exact also for small ones, where an arc cosine is not."""
    apart = np.linalg.norm(one.astype(np.float64) - other, axis=-1)
    return np.degrees(2 * np.arcsin(np.clip(apart / 2, 0, 1)))
