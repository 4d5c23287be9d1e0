"""What every backend that opens ONNX files needs to know before it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from nddr_deploy.errors import ModelFileError, UnsupportedError
from nddr_deploy.graph.metadata import manifest_of, read_model
from nddr_deploy.manifest import Manifest

INPUT = "images"
INTEGER_OPS = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}


@dataclass(frozen=True)
class OnnxFile:
    """An exported model on disk.

    Attributes:
        path: of the file.
        manifest: from its metadata; its tasks are exactly the graph's outputs.
        precision: that its numbers are written for: "fp32", "fp16" or "int8" (Q/DQ nodes).
        halves: whether some of its weights are FP16: all of an fp16 file, what is not quantised of an int8 one.
    """

    path: Path
    manifest: Manifest
    precision: str
    halves: bool = False

    @classmethod
    def read(cls, path: Path) -> OnnxFile:
        """Read and cross-check the parts.

        Raises:
            ModelFileError: no file, not ONNX, no manifest, or one that contradicts the graph.
        """
        model = read_model(path)
        manifest = manifest_of(model, source=str(path))
        weights = {weight.name for weight in model.graph.initializer}
        inputs = [value.name for value in model.graph.input if value.name not in weights]
        outputs = [value.name for value in model.graph.output]
        names = [task.name for task in manifest.tasks]
        if inputs != [INPUT] or sorted(outputs) != sorted(names):
            raise ModelFileError(
                f"{path}: the graph takes {inputs} and returns {outputs}, but by its manifest it should take "
                f"{[INPUT]} and return {names}. Export the model again."
            )
        halves = has_halves(model)
        return cls(path, manifest, _precision(model, halves), halves)

    def check_precision(
        self,
        asked: str | None,
        supported: tuple[str, ...],
        backend: str,
        *,
        as_written: tuple[str, ...] = ("int8",),
        of_int8: tuple[str, ...] = (),
        instead: Mapping[str, str] | None = None,
    ) -> str:
        """The precision to run in: the one asked for, or the file's own.

        Args:
            asked: by the user; None takes what the file is written for.
            supported: what the backend can make of an fp32 file.
            backend: its name, for the message.
            as_written: other precisions of files that it runs in just that precision; "int8+fp16" where it also takes
                Q/DQ nodes among FP16.
            of_int8: what it can make of an int8 file beside running it as it is: "int8+bf16", what is not in int8 in
                BF16.
            instead: a sentence per precision that it does not have: why, and what has it.

        Raises:
            UnsupportedError: this file cannot be run so.
        """
        mixed = self.precision == "int8" and self.halves
        if mixed and "int8+fp16" not in as_written:  # ONNX Runtime's own biases underflow there: 20 % off
            raise UnsupportedError(
                f"{self.path}: its quantised layers have FP16 scales, as TensorRT from 10 on wants them; {backend} "
                "does not run them rightly. Use the file that it was made from, or the backend onnxruntime-as-written."
            )
        wanted = asked or self.precision
        written = (self.precision,) if self.precision in as_written else ()
        further = of_int8 if self.precision == "int8" else ()
        possible = supported if self.precision == "fp32" else (*written, *further)
        if wanted not in possible:
            choices = " or ".join(possible) or "nothing; use the fp32 file"
            advice = (instead or {}).get(wanted, "")
            raise UnsupportedError(
                f"{self.path}: {backend} cannot run this {self.precision} file in {wanted}. Possible: {choices}."
                + (f" {advice}" if advice else "")
            )
        return wanted


def _precision(model: onnx.ModelProto, halves: bool) -> str:
    if any(node.op_type in INTEGER_OPS for node in model.graph.node):
        return "int8"
    return "fp16" if halves else "fp32"


def has_halves(model: onnx.ModelProto) -> bool:
    return any(weight.data_type == onnx.TensorProto.FLOAT16 and weight.dims for weight in model.graph.initializer)
