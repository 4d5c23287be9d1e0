"""What a benchmark measures: the files that belong to one model."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from nddr_deploy.engines.onnx_file import OnnxFile
from nddr_deploy.engines.plan_file import PlanFile
from nddr_deploy.errors import ConfigError, ModelFileError
from nddr_deploy.graph.decode_graph import append_decoders
from nddr_deploy.graph.flops import count_flops
from nddr_deploy.graph.metadata import manifest_of, read_model
from nddr_deploy.graph.static import fix_input
from nddr_deploy.manifest import Manifest

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Subject:
    """One model in up to four forms.

    Attributes:
        path: of `--engine`: what all cases must do the same work as.
        manifest: its own.
        model: the exported model; None where there is only a TensorRT engine.
        precision: that the exported model is written for.
        plan: the TensorRT engine; None where there is none.
        plan_precision: that it was built in.
        checkpoint: what all were made from; None where it was not given.
        int8: the exported model, quantised; None where it was not given.
        flops: of a pass; None without an exported model to count them in.
        notes: what was done to the exported model, in sentences.
    """

    path: Path
    manifest: Manifest
    model: Path | None
    precision: str
    plan: Path | None
    plan_precision: str
    checkpoint: Path | None
    flops: int | None
    int8: Path | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        engine: StrPath,
        *,
        model: StrPath | None = None,
        checkpoint: StrPath | None = None,
        int8: StrPath | None = None,
    ) -> Subject:
        """Read what the files say about themselves; nothing is loaded to run.

        Args:
            engine: an exported model (`.onnx`) or a TensorRT engine (`.trt`).
            model: the exported model of a TensorRT engine.
            checkpoint: what it was exported from.
            int8: the exported model, quantised.

        Raises:
            ConfigError: files of another kind, or that do not belong together.
            ModelFileError: one that cannot be used.
        """
        path = Path(engine)
        if path.suffix.lower() not in (".onnx", ".trt"):
            raise ConfigError(
                f"{path}: nddr-bench measures an exported model (.onnx) or a TensorRT engine (.trt). "
                "Give a checkpoint as --checkpoint."
            )
        if path.suffix.lower() == ".onnx":
            if model is not None:
                raise ConfigError(f"{path} is an exported model itself. Leave --model {model} out.")
            measured = cls._of(path, OnnxFile.read(path), None, checkpoint)
            return replace(measured, int8=_quantised(int8, measured.manifest))
        if not path.is_file():
            raise ModelFileError(f"{path} does not exist or is no file; expected a TensorRT engine of nddr-build.")
        exported = None
        if model is not None:
            if Path(model).suffix.lower() != ".onnx":
                raise ConfigError(f"--model {model}: expected an exported model (.onnx).")
            exported = OnnxFile.read(Path(model))
        plan = PlanFile.read(path)
        if exported is not None:
            check_origin(plan, exported)
        return replace(cls._of(path, exported, plan, checkpoint), int8=_quantised(int8, plan.about.model))

    @classmethod
    def _of(cls, path: Path, exported: OnnxFile | None, plan: PlanFile | None, checkpoint: StrPath | None) -> Subject:
        manifest = plan.about.model if plan else exported.manifest if exported else None
        if manifest is None:
            raise ConfigError(f"{path}: there is nothing to measure.")
        return cls(
            path=path,
            manifest=manifest,
            model=exported.path if exported else None,
            precision=exported.precision if exported else "fp32",
            plan=plan.path if plan else None,
            plan_precision=plan.about.precision if plan else "fp32",
            checkpoint=Path(checkpoint) if checkpoint else None,
            flops=count_flops(read_model(exported.path), manifest.size_hw, batch=manifest.batch) if exported else None,
        )

    def matched(self, folder: Path) -> Subject:
        """Its exported model made to do what its TensorRT engine does, by what nddr-build does to it, too: open
        extents are fixed, and decoders appended. Itself where nothing has to be done.

        Args:
            folder: for the other file.

        Raises:
            As `graph.static.fix_input` and `graph.decode_graph.append_decoders`.
        """
        if self.plan is None or self.model is None:
            return self
        graph = read_model(self.model)
        exported, wanted = manifest_of(graph, source=str(self.model)), self.manifest
        closed = set(exported.dynamic) - set(wanted.dynamic)
        done = []
        if closed:
            graph = fix_input(
                graph,
                batch=wanted.batch if "batch" in closed else None,
                size_hw=wanted.size_hw if "size" in closed else None,
            )
            done.append(f"its open {' and '.join(sorted(closed))} fixed")
        if (exported.outputs, wanted.outputs) == ("raw", "decoded"):
            graph = append_decoders(graph)
            done.append("decoders appended")
        if not done:
            return self
        path = folder / self.model.name
        onnx.save_model(graph, path)
        note = f"onnxruntime and openvino run {self.model.name} with {' and '.join(done)}, as the engine does"
        return replace(self, model=path, notes=(note,))

    def describe(self) -> dict[str, Any]:
        """For the report. Names no folder of this machine."""
        manifest = self.manifest
        return {
            "file": self.path.name,
            "network": manifest.network,
            "tasks": [task.name for task in manifest.tasks],
            "outputs": manifest.outputs,
            "size_hw": list(manifest.size_hw),
            "batch": manifest.batch,
            "flops": self.flops,
            "notes": list(self.notes),
        }


def _quantised(path: StrPath | None, measured: Manifest) -> Path | None:
    if path is None:
        return None
    file = OnnxFile.read(Path(path))
    if file.precision != "int8":
        raise ConfigError(f"--int8 {path} is an {file.precision} model; expected one that nddr-quantize wrote.")
    mine, other = (manifest.hashes.get("checkpoint") for manifest in (measured, file.manifest))
    if mine != other:
        raise ConfigError(
            f"--int8 {path} was made from another checkpoint than the measured model. Quantise the model itself."
        )
    return file.path


def check_origin(plan: PlanFile, exported: OnnxFile) -> None:
    """Both know the checkpoint that they were made from.

    Raises:
        ConfigError: it is not the same one.
    """
    mine, other = (found.hashes.get("checkpoint") for found in (plan.about.model, exported.manifest))
    if mine and other and mine != other:
        raise ConfigError(
            f"{plan.path} and --model {exported.path} were made from different checkpoints, so they are two models. "
            f"Give the model that the engine was built from ({plan.about.onnx}), or another export of its checkpoint."
        )
