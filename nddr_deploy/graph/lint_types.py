"""Rules for the opset and the type of what is not in int8: FP16 for TensorRT from 10 on, FP32 elsewhere."""

from __future__ import annotations

from onnx import TensorProto

from nddr_deploy.graph.lint_rule import TARGETS, Found, Rule, Target
from nddr_deploy.graph.quantised_flow import QuantisedFlow

LAST_OPSET_8 = 17  # that TensorRT 8 reads
HALF_OPSET = 19  # QuantizeLinear takes FP16 from here on
_MAKE_HALF = "Let nddr-build --graph make the rest FP16"


def opset(graph: QuantisedFlow, target: Target) -> Found:
    if target == "tensorrt8" and graph.opset > LAST_OPSET_8:
        yield (
            None,
            f"The graph has opset {graph.opset}; TensorRT 8 reads ONNX up to opset {LAST_OPSET_8}. Export it with "
            f"--opset {LAST_OPSET_8}, or use TensorRT 10 or later.",
        )
    if target == "tensorrt" and graph.opset < HALF_OPSET:
        yield (
            None,
            f"The graph has opset {graph.opset}; QuantizeLinear takes FP16 from opset {HALF_OPSET} on, and TensorRT "
            f"from 10 on runs in FP16 only what the graph has in FP16. {_MAKE_HALF}, which lifts the opset.",
        )


def float_type(graph: QuantisedFlow, target: Target) -> Found:
    kinds = {number: graph.grid(number).scale_kind for number in graph.quantising}
    if target == "tensorrt":
        if TensorProto.FLOAT in kinds.values() and TensorProto.FLOAT16 not in kinds.values():
            yield (
                None,
                "Every Q/DQ node has an FP32 scale, so everything that is not in int8 runs in FP32; TensorRT from 10 "
                f"on takes the types as they are written. {_MAKE_HALF}.",
            )
        return
    for number, kind in kinds.items():
        if kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
            reason = (
                "ONNX Runtime does not compute such layers rightly on a CPU"
                if target == "cpu"
                else "TensorRT 8 takes FP32, and chooses FP16 by itself where its builder flag allows it"
            )
            yield (
                number,
                f"{graph.named(number)} has a scale in FP16; {reason}. Quantise the FP32 file for this target.",
            )


def left_in_fp32(graph: QuantisedFlow, target: Target) -> Found:
    kinds = {number: _computes_in(graph, number) for number in graph.weighted}
    if TensorProto.FLOAT16 not in kinds.values():
        return  # said once, by the rule above
    for number, kind in kinds.items():
        if kind == TensorProto.FLOAT:
            yield (
                number,
                f"{graph.named(number)} is in FP32 among layers in FP16, and TensorRT from 10 on takes it as it is "
                "written; right where FP16 cannot hold its values, and slower. Make it FP16 if it was not left on "
                "purpose.",
            )


def _computes_in(graph: QuantisedFlow, number: int) -> int:
    """The type of a layer's weights, or of what they are dequantised to."""
    weights = graph.node(number).input[1]
    dequantiser = graph.dequantiser(weights)
    if dequantiser is not None:
        return graph.grid(dequantiser).scale_kind
    stored = graph.flow.constants.get(weights)
    return int(TensorProto.UNDEFINED) if stored is None else int(stored.data_type)


RULES = (
    Rule("opset", "error", ("tensorrt", "tensorrt8"), "19 or later for FP16 Q/DQ; up to 17 for TensorRT 8", opset),
    Rule("float-type", "error", TARGETS, "what is not in int8 is FP16 for tensorrt, FP32 for the others", float_type),
    Rule("left-in-fp32", "warning", ("tensorrt",), "no layer is in FP32 among others in FP16", left_in_fp32),
)
