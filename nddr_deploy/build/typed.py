"""The graph that TensorRT is given: with every type spelled out for 10 and later, plain for 8.6."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import onnx

from nddr_deploy.engines.onnx_file import has_halves
from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.engines.trt_build import DECODING
from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.graph.fp16 import Kept, beyond_fp16, to_fp16
from nddr_deploy.graph.ranges import scan_ranges
from nddr_deploy.graph.tensorrt_lint import check_for_tensorrt
from nddr_deploy.preprocess import Image

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class TypedGraph:
    """What TensorRT is to build.

    Attributes:
        model: the graph.
        kept_fp32: nodes that 8.6 is told by name to keep in FP32; empty for later versions, whose graph says it.
        reasons: of nodes that lie beyond FP16, for people: "node: why".
        share: of the layers that multiply, how many were asked to run in the precision.
    """

    model: onnx.ModelProto
    kept_fp32: tuple[str, ...]
    reasons: tuple[str, ...]
    share: float


def typed_graph(
    model: onnx.ModelProto, precision: str, major: int, images: Sequence[Image], *, keep: Sequence[str], source: str
) -> TypedGraph:
    """Spell a precision out.

    Args:
        model: FP32, or FP32 with Q/DQ nodes; or Q/DQ nodes among FP16, which is taken as it is.
        precision: "fp32", "fp16" or "int8".
        major: of TensorRT.
        images: batches that the model takes; activations are measured on them.
        keep: names of nodes that the user wants in FP32.
        source: the file's name, for errors.

    Raises:
        ModelFileError, UnsupportedError: the graph is not what TensorRT of that version takes.
        ConfigError: a node of `keep` does not exist, or the types are written down already.
    """
    check_for_tensorrt(model, precision=precision, major=major, source=source)
    nodes = {node.name for node in model.graph.node}
    for name in keep:
        if name not in nodes:
            raise unknown_choice("keep", name, sorted(nodes))
    if precision == "fp32":
        return TypedGraph(model, (), (), 1.0)
    if precision == "int8" and has_halves(model):
        if keep:
            raise ConfigError(
                f"keep: {source} has its types written down, {keep[0]!r} among them. Quantise the float32 file again, "
                "and keep the layer in float there."
            )
        return TypedGraph(model, (), (), asked_share(model, precision, ()))
    ranges = scan_ranges(model, partial(run_bytes, extra="gpu"), images)
    if major == 8:
        beyond = [entry for entry in beyond_fp16(model, ranges) if not entry.node.startswith(DECODING)]
        beyond += [Kept(name, "it was asked to stay in FP32") for name in keep]
        kept = tuple(dict.fromkeys(entry.node for entry in beyond))
        return TypedGraph(model, kept, tuple(map(str, beyond)), asked_share(model, precision, kept))
    typed = to_fp16(model, ranges, keep=keep)
    kept = tuple(entry.node for entry in typed.kept)
    return TypedGraph(typed.model, (), tuple(map(str, typed.kept)), asked_share(model, precision, kept))


def asked_share(model: onnx.ModelProto, precision: str, kept: Collection[str]) -> float:
    """Of the nodes that multiply by weights, how many the graph asks to be in the precision."""
    made_by = {output: node for node in model.graph.node for output in node.output}
    weighted = [node for node in model.graph.node if node.op_type in WEIGHTED]
    if precision == "int8":
        asked = [node for node in weighted if all(_dequantised(name, made_by) for name in node.input[:2])]
    else:
        asked = [node for node in weighted if node.name not in kept]
    return len(asked) / len(weighted) if weighted else 1.0


def _dequantised(name: str, made_by: Mapping[str, onnx.NodeProto]) -> bool:
    return name in made_by and made_by[name].op_type == "DequantizeLinear"
