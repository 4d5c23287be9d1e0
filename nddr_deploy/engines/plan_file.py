"""A TensorRT plan and what is known about it: `model.trt` is a pure plan, `model.trt.json` beside it the manifest.

A plan is code for one GPU: like a program, it is only as trustworthy as where it came from.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints, ValidationError, model_validator

from nddr_deploy.engines.cuda import Gpu
from nddr_deploy.engines.plan_options import FileName, Line, PlanOptions
from nddr_deploy.errors import ModelFileError, NddrError
from nddr_deploy.files import sha256
from nddr_deploy.manifest import Manifest

Extent = Annotated[int, Field(ge=1, le=65536)]
ImagesShape = tuple[Extent, Extent, Extent, Literal[3]]  # (N, H, W, 3)
Precision = Literal["fp32", "fp16", "int8"]
AMPERE = "8.0"  # what a hardware-compatible plan runs on, and everything later


class Profile(BaseModel):
    """The shapes of `images`, (N, H, W, 3), that a plan takes, and the one it is fastest at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: ImagesShape
    opt: ImagesShape
    max: ImagesShape

    @model_validator(mode="after")
    def _in_order(self) -> Profile:
        if not all(a <= b <= c for a, b, c in zip(self.min, self.opt, self.max, strict=True)):
            raise ValueError(f"min {self.min}, opt {self.opt}, max {self.max} are not in this order")
        return self

    @property
    def static(self) -> bool:
        return self.min == self.max

    def takes(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == 4 and all(a <= b <= c for a, b, c in zip(self.min, shape, self.max, strict=True))

    def __str__(self) -> str:
        """`(1 to 8, 480, 640, 3)`"""
        parts = [str(a) if a == b else f"{a} to {b}" for a, b in zip(self.min, self.max, strict=True)]
        return f"({', '.join(parts)})"


class PlanManifest(BaseModel):
    """Everything about a plan that the plan does not say itself.

    Attributes:
        model: what it takes and returns; its hashes name the checkpoint and the ONNX file.
        plan: SHA-256 of the plan.
        onnx: the ONNX file's name.
        tensorrt: the version that built it.
        gpu, compute_capability: that it was built on.
        precision: what was asked for.
        realised: what the layers run in, by the plan's own account; see `trt_inspect.Realised`.
        kept_fp32: nodes that stayed in fp32, each with the reason.
        profile: of the input.
        options: of nddr-build, as it was called.
        parity: with ONNX Runtime on the ONNX file, head by head.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["nddr-deploy-plan/1"] = "nddr-deploy-plan/1"
    model: Manifest
    plan: str
    onnx: FileName
    tensorrt: Annotated[str, StringConstraints(pattern=r"^\d{1,4}(\.\d{1,6}){1,4}(\.post\d{1,4})?$")]
    gpu: Line
    compute_capability: Annotated[str, StringConstraints(pattern=r"^\d{1,3}\.\d{1,2}$")]
    precision: Precision
    realised: dict[str, Any]
    kept_fp32: tuple[str, ...] = ()
    profile: Profile
    options: Annotated[PlanOptions, PlainSerializer(PlanOptions.to_dict)] = PlanOptions()
    parity: dict[str, Any] | None = None

    def to_json(self) -> str:
        return self.model_dump_json(indent=1) + "\n"


@dataclass(frozen=True)
class PlanFile:
    """A plan on disk with its manifest.

    Attributes:
        path: of the plan.
        about: its manifest.
    """

    path: Path
    about: PlanManifest

    @classmethod
    def read(cls, path: Path) -> PlanFile:
        """Read the manifest and hold the plan against it.

        Raises:
            ModelFileError: no manifest, a damaged one, or a plan that is not the one it describes.
        """
        beside = manifest_path(path)
        if not beside.is_file():
            raise ModelFileError(
                f"{path} has no manifest ({beside.name} beside it), so its tasks, its TensorRT and its GPU are "
                f"unknown. Copy it along, or build the engine again: nddr-build MODEL.onnx --output {path}"
            )
        try:
            about = PlanManifest.model_validate_json(beside.read_bytes())
        except (ValidationError, NddrError) as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else None
            why = f"{'.'.join(map(str, first['loc'])) or 'the document'}: {first['msg']}" if first else str(error)
            why = why if why.isprintable() else ascii(why)
            raise ModelFileError(
                f"{beside} cannot be read ({why}). Build the engine again: nddr-build MODEL.onnx --output {path}"
            ) from error
        file = cls(path, about)
        if sha256(path) != about.plan:
            raise ModelFileError(
                f"{path} is not the plan that {beside.name} describes: it was changed, or only one of the two files "
                f"was copied. {file.rebuild()}"
            )
        return file

    def check_fits(self, tensorrt: str, gpu: Gpu) -> None:
        """Refuse to run a plan elsewhere than where it was built for.

        Args:
            tensorrt: the version installed here.
            gpu: the one here.

        Raises:
            ModelFileError: another TensorRT, or another GPU.
        """
        about = self.about
        if tensorrt != about.tensorrt and not (about.options.version_compatible and _later(tensorrt, about.tensorrt)):
            raise ModelFileError(
                f"{self.path} was built by TensorRT {about.tensorrt}; TensorRT {tensorrt} is installed here. "
                f"{self.rebuild()}"
            )
        same = (gpu.name, gpu.compute_capability) == (about.gpu, about.compute_capability)
        if not same and not (
            about.options.hardware_compatible and _numbers(gpu.compute_capability) >= _numbers(AMPERE)
        ):
            raise ModelFileError(
                f"{self.path} was built on {about.gpu} (compute capability {about.compute_capability}); "
                f"this machine has {gpu}. {self.rebuild()}"
            )

    def rebuild(self) -> str:
        """The sentence with the command that builds this engine again."""
        about = self.about
        model = f"./{about.onnx}" if about.onnx.startswith("-") else about.onnx  # else it would be an option
        words = ["nddr-build", model, "--output", str(self.path), "--precision", about.precision]
        return f"Build it again here: {shlex.join([*words, *about.options.words()])}"


def manifest_path(plan: Path) -> Path:
    """`model.trt` -> `model.trt.json`."""
    return plan.with_name(f"{plan.name}.json")


def _later(installed: str, built: str) -> bool:
    """Of the same major version, and not older."""
    found, wanted = _numbers(installed), _numbers(built)
    return found[0] == wanted[0] and found >= wanted


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]
