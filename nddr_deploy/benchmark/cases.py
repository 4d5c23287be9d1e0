"""What a benchmark compares: a runtime, a precision and the file it opens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nddr_deploy.engines.table import PRECISIONS
from nddr_deploy.errors import ConfigError, unknown_choice

# Measured where --against does not say: whatever of it this machine can run.
DEFAULT = ("torch", "onnxruntime", "openvino", "openvino:bf16")
CPU_RUNTIMES = ("torch", "torch.compile", "onnxruntime", "openvino")
GPU_RUNTIMES = ("torch-cuda", "torch-cuda.compile", "onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt")
RUNTIMES = CPU_RUNTIMES + GPU_RUNTIMES
COMPILED = ".compile"
WHAT_IS_MISSING = {
    "torch": "the checkpoint, and none was given. Add --checkpoint ckpt.pt.",
    "tensorrt": "a TensorRT engine, and none was given. Build one with nddr-build, and give --engine model.trt.",
    "onnxruntime": "the exported model, and none was given. Add --model model.onnx.",
    "openvino": "the exported model, and none was given. Add --model model.onnx.",
}


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: as the user writes it: "openvino:bf16".
        backend: key of `engines.BACKENDS`.
        precision: key of `engines.table.PRECISIONS`.
        compiled: through `torch.compile`.
        path: the checkpoint (torch), the TensorRT engine or the exported model.
    """

    name: str
    backend: str
    precision: str
    compiled: bool
    path: Path

    @property
    def label(self) -> str:
        """For people: "openvino bf16"."""
        return f"{self.backend}{COMPILED if self.compiled else ''} {self.precision}"

    @property
    def gpu(self) -> bool:
        """Whether it runs on a GPU."""
        return self.backend in GPU_RUNTIMES

    @property
    def environment(self) -> dict[str, str]:
        """What its process needs to be told before any library loads."""
        exact = self.backend == "onnxruntime-tensorrt" and self.precision == "fp32"
        return {"NVIDIA_TF32_OVERRIDE": "0"} if exact else {}


def parse_cases(
    names: Sequence[str],
    *,
    model: Path | None,
    checkpoint: Path | None,
    precision: str = "fp32",
    plan: Path | None = None,
    plan_precision: str = "fp32",
    int8: Path | None = None,
) -> list[Case]:
    """`["torch", "openvino:bf16"]` -> the cases, in that order.

    Args:
        names: `RUNTIME` or `RUNTIME:PRECISION`.
        model: the exported file; the onnxruntime and openvino cases run it.
        checkpoint: what it was exported from; the torch cases run it.
        precision: of a name that gives none: what the exported file is written for.
        plan: the TensorRT engine; the tensorrt case runs it.
        plan_precision: that it was built in.
        int8: the exported file, quantised; the onnxruntime and openvino cases in int8 or int8+bf16 run it.

    Raises:
        ConfigError: an unknown runtime or precision, one case twice, or a case whose file was not given.
    """
    cases: list[Case] = []
    for name in names:
        runtime, colon, asked = name.partition(":")
        if runtime not in RUNTIMES:
            raise unknown_choice("--against", runtime, RUNTIMES)
        if colon and asked not in PRECISIONS:
            raise unknown_choice(f"--against {runtime}", asked, PRECISIONS)
        backend = runtime.removesuffix(COMPILED)
        if backend.startswith("torch"):
            file, usual = checkpoint, "fp32"
        elif backend == "tensorrt":
            file, usual = plan, plan_precision
        elif asked in ("int8", "int8+bf16") and int8 is not None:
            file, usual = int8, asked
        else:
            file, usual = model, precision
        if file is None:
            raise ConfigError(f"--against {runtime} runs {WHAT_IS_MISSING[backend.split('-')[0]]}")
        case = Case(name, backend, asked or usual, compiled=runtime.endswith(COMPILED), path=file)
        if case.label in [other.label for other in cases]:
            raise ConfigError(f"--against: {case.label} is there twice. Name every case once.")
        cases.append(case)
    if not cases:
        raise ConfigError(f"--against names no case. Choose some of: {', '.join(RUNTIMES)}.")
    return cases


def default_gpu(precision: str) -> tuple[str, ...]:
    """Measured for a TensorRT engine where --against does not say, in its precision as far as they have it."""
    halves = "fp16" if precision == "int8" else precision
    return (
        f"torch-cuda:{halves}",
        f"torch-cuda.compile:{halves}",
        "onnxruntime-cuda",
        "onnxruntime-tensorrt",
        "tensorrt",
    )


def installed_versions() -> dict[str, str]:
    """Of the packages that figures depend on, as far as they are installed."""
    found = {}
    for package in (
        "nddr-deploy",
        "torch",
        "onnxruntime",
        "onnxruntime-gpu",
        "openvino",
        "tensorrt",
        "cuda-bindings",
        "numpy",
        "numba",
        "opencv-python-headless",
        "av",
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
