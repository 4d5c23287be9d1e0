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
RUNTIMES = ("torch", "torch.compile", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: as the user writes it: "openvino:bf16".
        backend: key of `engines.BACKENDS`.
        precision: key of `engines.table.PRECISIONS`.
        compiled: through `torch.compile`.
        path: the checkpoint (torch) or the exported model.
    """

    name: str
    backend: str
    precision: str
    compiled: bool
    path: Path

    @property
    def label(self) -> str:
        """For people: "openvino bf16"."""
        return f"{'torch.compile' if self.compiled else self.backend} {self.precision}"


def parse_cases(names: Sequence[str], *, model: Path, checkpoint: Path | None, precision: str = "fp32") -> list[Case]:
    """`["torch", "openvino:bf16"]` -> the cases, in that order.

    Args:
        names: `RUNTIME` or `RUNTIME:PRECISION`.
        model: the exported file.
        checkpoint: what it was exported from; the torch cases run it.
        precision: of a name that gives none: what the exported file is written for.

    Raises:
        ConfigError: an unknown runtime or precision, one case twice, or a torch case without a checkpoint.
    """
    cases: list[Case] = []
    for name in names:
        runtime, colon, asked = name.partition(":")
        if runtime not in RUNTIMES:
            raise unknown_choice("--against", runtime, RUNTIMES)
        if colon and asked not in PRECISIONS:
            raise unknown_choice(f"--against {runtime}", asked, PRECISIONS)
        torch = runtime.startswith("torch")
        if torch and checkpoint is None:
            raise ConfigError(f"--against {runtime} runs the checkpoint, and none was given. Add --checkpoint ckpt.pt.")
        case = Case(
            name=name,
            backend="torch" if torch else runtime,
            precision=asked or ("fp32" if torch else precision),
            compiled=runtime == "torch.compile",
            path=checkpoint if torch and checkpoint else model,
        )
        if case.label in [other.label for other in cases]:
            raise ConfigError(f"--against: {case.label} is there twice. Name every case once.")
        cases.append(case)
    if not cases:
        raise ConfigError(f"--against names no case. Choose some of: {', '.join(RUNTIMES)}.")
    return cases


def installed_versions() -> dict[str, str]:
    """Of the packages that figures depend on, as far as they are installed."""
    found = {}
    for package in (
        "nddr-deploy",
        "torch",
        "onnxruntime",
        "openvino",
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
