"""Values of every output on pictures that every machine can make: enough to see that a model computes the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from nddr_deploy.card.measured import MachineFacts, Probe, Probes
from nddr_deploy.engines.base import Engine
from nddr_deploy.engines.machine import describe_machine
from nddr_deploy.errors import InputError
from nddr_deploy.evaluate.decode import decode_batch
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

IMAGES = 3
VALUES = 256
PACKAGES = {
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
}
# Odd numbers near 2**64 times the golden ratio and the root of 2: their multiples fall evenly, on every machine.
_STEP, _START = 0x9E3779B97F4A7C15, 0x6A09E667F3BCC909


def take_probes(
    engine: Engine,
    reference: Engine | None = None,
    *,
    seed: int = 0,
    size_hw: tuple[int, int] | None = None,
) -> Probes:
    """Run the probe images and keep values of every output.

    Args:
        engine: of the model that the card is of.
        reference: of the FP32 model that it was made from, with the same outputs.
        seed: of the positions.
        size_hw: of the images; None is the manifest's.

    Raises:
        InputError: an output holds NaN or infinity; the engine takes no images of that size.
    """
    manifest = engine.manifest
    size_hw = manifest.size_hw if size_hw is None else size_hw
    images = probe_images(size_hw, IMAGES)
    outputs = run_all(engine, images)
    for task, output in outputs.items():
        if not np.isfinite(output).all():
            raise InputError(
                f"{task}: the output on the probe images holds NaN or infinity, so no card can vouch for it. "
                "Look for the layer that overflows; keep it in fp32."
            )
    return Probes.model_validate(
        {
            "seed": seed,
            "images": IMAGES,
            "sha256": images_hash(images),
            "size_hw": size_hw,
            "backend": engine.backend,
            "precision": engine.precision,
            "machine": MachineFacts.of(describe_machine()),
            "runtime": runtime_version(engine.backend),
            "raw": _probes(outputs if manifest.outputs == "raw" else {}, seed),
            "decoded": _probes(decode_batch(outputs, manifest, size_hw), seed),
            "reference": {} if reference is None else _probes(run_all(reference, images), seed),
        }
    )


def images_hash(images: Image) -> str:
    """SHA-256 of the pixels: another NumPy might draw others from the same seed."""
    return hashlib.sha256(images.tobytes()).hexdigest()


def runtime_version(backend: str) -> str:
    """`onnxruntime 1.31.0`; empty where no package of the backend's is installed."""
    for package in PACKAGES[backend.partition("-")[0]]:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return ""


def run_all(engine: Engine, images: Image) -> dict[str, Array]:
    """Every output for any number of images: a batch as the engine takes it at a time, the last one filled up."""
    manifest = engine.manifest
    found = []
    for start in range(0, len(images), batch_size(manifest)):
        batch = images[start : start + batch_size(manifest)]
        missing = batch_size(manifest) - len(batch)
        filled = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        found.append({task: output[: len(batch)] for task, output in engine.infer(filled).items()})
    return {task: np.concatenate([outputs[task] for outputs in found]) for task in found[0]}


def batch_size(manifest: Manifest) -> int:
    """Images of one pass: what the model is fixed to, or one."""
    return 1 if "batch" in manifest.dynamic else manifest.batch


def positions(size: int, seed: int) -> list[int]:
    """Where an output of that many values is read: everywhere if it is small, else spread evenly. Integers alone."""
    if size <= VALUES:
        return list(range(size))
    fractions = ((seed * _START + place * _STEP) % 2**64 for place in range(1, VALUES + 1))
    return sorted({fraction * size >> 64 for fraction in fractions})


def _probes(outputs: Mapping[str, Array], seed: int) -> dict[str, Probe]:
    return {task: _probe(output, seed) for task, output in outputs.items()}


def _probe(output: Array, seed: int) -> Probe:
    flat = np.asarray(output).reshape(-1)
    values = flat[positions(flat.size, seed)].astype(np.float64)
    labels = not np.issubdtype(output.dtype, np.floating)
    if not labels:
        # Nine digits hold a float32 exactly; a float64's further ones would be noise.
        values = np.array([float(f"{value:.9g}") for value in values])
    extent = float(flat.max()) - float(flat.min())
    return Probe(shape=output.shape, values=tuple(values.tolist()), extent=extent, labels=labels)


@dataclass(frozen=True)
class ProbeDifference:
    """One output then and now.

    Attributes:
        task: its name.
        relative: the largest difference of a value, as a share of the output's range then.
        typical: root mean square of the differences, as such a share. Of labels both are the share that differs.
        problem: why they cannot be compared; empty where they can.
    """

    task: str
    relative: float = float("nan")
    typical: float = float("nan")
    problem: str = ""


def compare_probes(then: Mapping[str, Probe], now: Mapping[str, Probe]) -> tuple[ProbeDifference, ...]:
    """Output by output, in the order of `then`; outputs that only `now` has come last."""
    return tuple(_compare(task, then.get(task), now.get(task)) for task in dict.fromkeys([*then, *now]))


def _compare(task: str, then: Probe | None, now: Probe | None) -> ProbeDifference:
    if then is None or now is None:
        return ProbeDifference(task, problem="the model lacks it" if now is None else "the card does not know it")
    if then.shape != now.shape or len(then.values) != len(now.values):
        return ProbeDifference(task, problem=f"its shape was {then.shape} and is {now.shape}")
    differences = np.abs(np.array(then.values) - np.array(now.values))
    if then.labels or now.labels:
        share = float(np.count_nonzero(differences)) / len(differences)
        return ProbeDifference(task, share, share)
    # As in parity: below 1 % of the magnitude, an output that hardly varies would be judged by float32's rounding.
    extent = max(then.extent, 0.01 * float(np.abs(then.values).max())) or 1.0
    return ProbeDifference(task, float(differences.max()) / extent, float(np.sqrt((differences**2).mean())) / extent)
